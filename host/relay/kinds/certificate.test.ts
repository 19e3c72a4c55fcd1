import { rootCertificates } from 'node:tls';
import { expect, test } from 'vitest';
import { fromHex } from '../../../lib/protocol/encoding.ts';
import { parseAddress } from '../../../lib/protocol/hex.ts';
import type { CertificateMessage } from '../../../lib/protocol/onboarding-messages.ts';
import { type CertificateRule, parseRoots } from '../../../lib/site/certificate-rule.ts';
import { newKey, spkiOf, TestAuthority } from '../../../test/support/authority.ts';
import type { Message } from '../../gossip/message-kind.ts';
import type { Admission } from '../admission.ts';
import { certificateKind } from './certificate.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const authority = new TestAuthority();
const key = newKey();
const now = Math.floor(Date.now() / 1000);
const DAY = 86_400;
const rule: CertificateRule = {
  publicKey: spkiOf(key),
  names: ['site.example'],
  roots: parseRoots([...rootCertificates, authority.pem].join('\n')),
  now,
};
const issued = (serial: number, from = now - DAY, more = {}) =>
  authority.issue({ key, serial, from, to: from + 90 * DAY, ...more });

const messageOf = (chain: string): CertificateMessage => ({ type: 'certificate', ...domain, chain });
const admit = (
  message: CertificateMessage,
  held: readonly string[] = [],
  certificate: CertificateRule | undefined = rule,
) =>
  certificateKind.admit(message, {
    network: { domain } as Admission['network'],
    held: { about: <M extends Message>() => held.map(messageOf) as Message[] as M[], isKept: () => false },
    flavour: 'sim',
    certificate,
  });
const refused = (code: string) => expect.objectContaining({ code });

test('one that an authority issued for our key and names is kept, in one form', async () => {
  const chain = issued(1);
  const crlf = `\r\n${chain.replaceAll('\n', '\r\n')}\r\n`;
  expect(await admit(messageOf(crlf))).toEqual(messageOf(chain));
});

test('a stranger can have nothing kept that no authority issued', async () => {
  const forger = new TestAuthority();
  const own = forger.issue({ key, serial: 9, from: now, to: now + 900 * DAY });
  await expect(admit(messageOf(own + forger.pem))).rejects.toEqual(refused('CERT_CHAIN'));
  await expect(admit(messageOf(issued(1, now, { key: newKey() })))).rejects.toEqual(refused('CERT_KEY'));
  await expect(admit(messageOf(issued(1, now, { names: ['other.example'] })))).rejects.toEqual(
    refused('CERT_NAME'),
  );
  await expect(admit(messageOf(issued(1, now - 91 * DAY)))).rejects.toEqual(refused('CERT_EXPIRED'));
  await expect(admit(messageOf('-----BEGIN'))).rejects.toEqual(refused('CERT_MALFORMED'));
  await expect(
    admit({ ...messageOf(issued(1)), contract: parseAddress(`0x${'22'.repeat(20)}`) }),
  ).rejects.toEqual(refused('GOSSIP_OTHER_NETWORK'));
});

test('none that is no newer than the one held; the very same is no news, and no fault', async () => {
  const [older, newer] = [issued(1), issued(2, now)];
  await expect(admit(messageOf(older), [newer])).rejects.toEqual(refused('CERT_OLDER'));
  expect(await admit(messageOf(newer), [older])).toEqual(messageOf(newer));
  expect(await admit(messageOf(newer), [older, newer])).toEqual(messageOf(newer));
  // What is held and has run out keeps nothing out.
  expect(await admit(messageOf(older), [issued(3, now - 91 * DAY)])).toEqual(messageOf(older));
});

test('while the own node has not said what it must be, nothing is kept', async () => {
  const context = {
    network: { domain } as Admission['network'],
    held: { about: () => [], isKept: () => false },
    flavour: undefined,
    certificate: undefined,
  };
  await expect(certificateKind.admit(messageOf(issued(1)), context)).rejects.toEqual(
    refused('GOSSIP_NO_SITE'),
  );
  expect(fromHex(certificateKind.subjectOf(messageOf('')))).toHaveLength(32);
});
