// oidc-provider from npm with its own defaults, its own pages for signing in included. By default it puts the address
// of an account into UserInfo alone.
// Usage: node oidc_provider.mjs ISSUER PORT CERTIFICATE KEY
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const [issuer, port, certificate, key] = process.argv.slice(2);
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'mailtoken',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      redirect_uris: ['http://localhost:8444/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    },
    {
      client_id: 'mailtoken-app',
      client_secret: 'mailtoken-secret',
      redirect_uris: [],
      response_types: [],
      grant_types: ['client_credentials'],
    },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (context, login) => ({
    accountId: login,
    claims: () => ({ sub: login, email: login, email_verified: true }),
  }),
  features: { clientCredentials: { enabled: true }, deviceFlow: { enabled: true }, revocation: { enabled: true } },
});
createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, provider.callback())
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));
