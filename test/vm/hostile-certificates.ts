/** Chains that a hostile host brings to its node, and what the node answers. */
import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { sitePaths } from '../../lib/protocol/site-evidence.ts';
import { type KeyPair, newKey, type TestAuthority } from '../support/authority.ts';

const DAY = 24 * 3600;

/**
 * Brings one of each kind, and sees it refused by its code.
 * @param port of the node's website
 * @param name that the network's certificates are for
 * @param older a chain that the node shows, or showed before and could still, PEM
 * @param issuer who is on the host's side
 * @param isTrusted whether network.json names it: then nothing but the fault itself is in the chain's way
 * @returns the codes
 */
export async function refusesHostileChains(
  port: number,
  name: string,
  older: string,
  issuer: TestAuthority,
  isTrusted: boolean,
): Promise<string[]> {
  const ours = { publicKey: new X509Certificate(older).publicKey } as KeyPair;
  const now = Math.floor(Date.now() / 1000);
  const form = { from: now - DAY, to: now + DAY, names: [name] };
  const hostile: Record<string, string> = {
    CERT_KEY: issuer.issue({ ...form, key: newKey() }),
    CERT_NAME: issuer.issue({ ...form, key: ours, names: [`other.${name}`] }),
    CERT_OLDER: older,
    CERT_MALFORMED: '-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n',
    ...(isTrusted
      ? { CERT_EXPIRED: issuer.issue({ ...form, key: ours, from: now - 2 * DAY, to: now - DAY }) }
      : { CERT_CHAIN: issuer.issue({ ...form, key: ours }) }),
  };
  for (const [code, chain] of Object.entries(hostile))
    expect(await bring(port, chain), code).toMatchObject({ status: 422, body: { code } });
  return Object.keys(hostile);
}

function bring(port: number, chain: string): Promise<{ status: number | undefined; body: unknown }> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: sitePaths.certificate, method: 'POST' };
    request({ ...options, rejectUnauthorized: false, agent: false }, (response) => {
      const { statusCode: status } = response;
      text(response).then((body) => resolve({ status, body: JSON.parse(body) }), reject);
    })
      .on('error', reject)
      .end(chain);
  });
}
