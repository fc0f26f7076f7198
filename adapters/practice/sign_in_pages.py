"""The pages on which a person signs in at the practice provider: plain HTML forms, no script, no password.

Every decision is a POST with the CSRF token of the session, and counts once.
"""

import secrets
from http import HTTPStatus

from authlib.oauth2 import OAuth2Error
from flask import Flask, Response, abort, make_response, render_template, request, session, url_for

from adapters.practice.authorization_server import AuthorizationServer
from adapters.practice.registry import Decision, DeviceCode, same_account

# No `form-action`: browsers apply it to the redirect after the POST as well, which leads to the client.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class SignInPages:
    """The device page (RFC 8628 section 3.3) and the authorization page (RFC 6749 section 3.1)."""

    def __init__(self, app: Flask, server: AuthorizationServer) -> None:
        self._server = server
        self._registry = server.registry
        app.config.update(
            SECRET_KEY=secrets.token_hex(),
            # Browsers share cookies between all ports of localhost.
            SESSION_COOKIE_NAME=f"practice-{secrets.token_hex(4)}",
            SESSION_COOKIE_SECURE=True,
            SESSION_COOKIE_SAMESITE="Lax",
        )
        app.add_url_rule("/device", "device", self.device, methods=["GET", "POST"])

    def device(self) -> Response:
        """Ask for the user code, then for the decision, then show the result."""
        user_code = request.values.get("user_code", "").strip()
        if not user_code:
            return self._page("enter_code.html")
        with self._registry.lock:
            device_code = self._registry.device_code_of(user_code)
            if device_code is None or device_code.is_expired() or device_code.decision is not None:
                wrong = "This code is unknown, used or too old. Ask for a new one."
                return self._page("enter_code.html", HTTPStatus.NOT_FOUND, wrong=wrong)
            if request.method == "GET":
                return self._ask(
                    client_id=device_code.client_id, action=url_for("device"), user_code=device_code.user_code
                )
            return self._decided(device_code, self._posted_decision())

    def authorize(self) -> Response:
        """Ask for the decision, then send the browser back to the client with a code or an error."""
        try:
            grant = self._server.get_consent_grant()
        except OAuth2Error as error:
            answer: Response = self._server.handle_error_response(None, error)
            self._server.execute_hook("after_create_authorization_response", answer)
            return answer
        if request.method == "GET":
            return self._ask(client_id=grant.client.client_id, action=request.full_path)
        decision = self._posted_decision()
        account = decision.account if decision.approved else None
        back: Response = self._server.create_authorization_response(grant=grant, grant_user=account)
        return back

    def _decided(self, device_code: DeviceCode, decision: Decision) -> Response:
        device_code.decision = decision
        if not decision.approved:
            return self._page("message.html", heading="Access denied", text="You can close this page.")
        text = f"You signed in as {decision.account}. You can close this page and go back to the machine."
        return self._page("message.html", heading="Done", text=text)

    def _ask(self, *, client_id: str, action: str, user_code: str | None = None) -> Response:
        csrf_token = session.setdefault("csrf_token", secrets.token_urlsafe())
        hint = request.args.get("login_hint", "")
        chosen = next((account for account in self._server.accounts if same_account(account, hint)), None)
        return self._page(
            "sign_in.html",
            client_id=client_id,
            action=action,
            user_code=user_code,
            accounts=self._server.accounts,
            chosen=chosen,
            csrf_token=csrf_token,
        )

    def _posted_decision(self) -> Decision:
        if not secrets.compare_digest(session.get("csrf_token", ""), request.form.get("csrf_token", "-")):
            abort(HTTPStatus.FORBIDDEN)
        account, decision = request.form.get("account", ""), request.form.get("decision")
        if account not in self._server.accounts or decision not in {"approve", "deny"}:
            abort(HTTPStatus.BAD_REQUEST)
        return Decision(account, approved=decision == "approve")

    def _page(self, template: str, status: HTTPStatus = HTTPStatus.OK, **context: object) -> Response:
        page = make_response(render_template(template, tenant=self._server.tenant, **context), status)
        page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        page.headers["Referrer-Policy"] = "no-referrer"
        page.headers["Cache-Control"] = "no-store"
        return page
