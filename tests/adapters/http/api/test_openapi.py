"""The OpenAPI document: whole, with examples, and what is answered is as it says, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from effort import amount
from fakes import FakeProvider
from hypothesis import HealthCheck, Phase, given, settings, strategies
from permissions import PERMITTED_ROLES
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.schemas import OpenApiSchema
from served import ADMIN, SMTP
from served_api import Api

from domain.lifecycle import TokenStatus
from domain.plan import Wanted
from domain.secret import Secret
from infrastructure.service import Service

CHECKS = (
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.allow_header_conformance,
)
EXAMPLES = amount(8, of=40)


@pytest.fixture(scope="module")
def schema(shared_http: Api) -> OpenApiSchema:
    url = "http://{}:{}/api/v1/openapi.json".format(*shared_http.address)
    schema = schemathesis.openapi.from_url(url, timeout=120)
    # An answer that goes on for ever is read up to its first event.
    schema.config.max_stream_events = 1
    return schema


@pytest.fixture
def fleet(shared_installation: Service, shared_provider: FakeProvider) -> None:
    """The objects that the document's examples name, and no others."""
    service = shared_installation
    remove_everything(service)
    service.settings.add_machine("press", "generic", ADMIN)
    for name in service.settings.add_machine("office-mfp", "sharp-bp", ADMIN):
        texts = {"server": "localhost", "port": "9", "provider": "contoso", "account": "scan@contoso.com"}
        service.settings.set_profile(name, texts, ADMIN)
    service.tokens.request("office-mfp/smtp-service", None, ADMIN)
    shared_provider.approve("scan@contoso.com")
    service.tokens.poll(service.tokens.status("office-mfp/smtp-service").profile.token_id)
    service.clients.add("backup", ["office-mfp/smtp-service"], None, ADMIN)
    service.applier.apply(Wanted(clients={"archive": [SMTP]}), ADMIN, None)
    service.relay_users.add("printers", [SMTP], ["10.20.30.0/24"], Secret("correct horse battery"), ADMIN)


def remove_everything(service: Service) -> None:
    for job in service.jobs.all():
        job.stopped.set()
        assert job.ended.wait(60)
    for client in service.clients.clients():
        service.clients.remove(client.name, ADMIN)
    for user in service.relay_users.users():
        service.relay_users.remove(user.name, ADMIN)
    # The last administrator can't be removed, so Zoe stays.
    people = {one.name for one in service.administrators.administrators()}
    if "zoe" not in people:
        service.administrators.add("zoe", ["administrator"], Secret("correct horse battery"), ADMIN)
    for name in people - {"zoe"}:
        service.administrators.remove(name, ADMIN)
    for name in [status.profile.name for status in service.tokens.statuses()]:
        if service.tokens.status(name).token.status is TokenStatus.WAITING:
            service.tokens.cancel(name, ADMIN)
        if service.tokens.status(name).token.status is not TokenStatus.NOT_RETRIEVED:
            service.tokens.delete(name, ADMIN)
    for machine in service.settings.machines():
        service.settings.remove_machine(machine["name"], ADMIN)
    for row in service.providers.stored:
        service.stored_providers.remove(row.state.name, ADMIN)


@pytest.mark.parametrize(("method", "path"), sorted(PERMITTED_ROLES))
@pytest.mark.usefixtures("fleet")
def test_whatever_is_asked_the_answer_is_as_the_document_says(schema: OpenApiSchema, method: str, path: str) -> None:
    operation = schema[path][method]
    right = [operation.as_strategy(), *operation.get_strategies_from_examples()]
    wrong = [operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)] if _takes_anything(operation) else []

    @given(case=strategies.one_of(*right, *wrong))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    ask()


def _takes_anything(operation: Any) -> bool:
    said = operation.definition.raw
    return bool(said.get("parameters") or said.get("requestBody"))


@schemathesis.serializer("message/rfc822")
def _message(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")


def test_every_model_has_an_example_or_is_part_of_one(shared_http: Api) -> None:
    document = shared_http.get("/api/v1/openapi.json")
    schemas = document["components"]["schemas"]
    asked_or_answered = {
        ref
        for methods in document["paths"].values()
        for operation in methods.values()
        for part in (operation.get("requestBody", {}), *operation["responses"].values())
        for ref in _refs(part)
    }
    without = {name for name in asked_or_answered if not _has_example(name, schemas)}
    assert without == set()


def test_every_refusal_is_documented_as_a_problem(shared_http: Api) -> None:
    document = shared_http.get("/api/v1/openapi.json")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusals = {status for status in operation["responses"] if status >= "400"}
            assert not path.startswith("/api/") or {"401", "403", "422", "503"} <= refusals, (method, path)
            assert operation["operationId"]
            assert operation["description"], (method, path)
    for name, response in document["components"]["responses"].items():
        assert list(response["content"]) == ["application/problem+json"], name


def test_operations_have_names_of_their_own(shared_http: Api) -> None:
    document = shared_http.get("/api/v1/openapi.json")
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def test_a_method_a_path_has_not_is_refused_with_those_it_has(shared_http: Api) -> None:
    refused = shared_http.ask("PUT", "/api/v1/machines")
    assert (refused.status, refused.headers["content-type"]) == (405, "application/problem+json")
    assert set(refused.headers["allow"].split(", ")) >= {"GET"}


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part and "/schemas/" in part["$ref"]:
            yield part["$ref"].rpartition("/")[2]
        for inner in part.values():
            yield from _refs(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _refs(inner)


def _has_example(name: str, schemas: dict[str, Any]) -> bool:
    schema = schemas[name]
    return "examples" in schema or (
        all("examples" in schemas[inner] for inner in _refs(schema.get("properties", {}))) and bool(list(_refs(schema)))
    )
