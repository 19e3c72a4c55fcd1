import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import type { DagRecord } from './format.ts';
import { amendmentOf, genesisOf, genesisValue } from './genesis.ts';
import { recordId } from './identity.ts';
import { withCertificate } from './make.ts';
import {
  dependenciesOf,
  factsOfMember,
  isEarly,
  type MemberFacts,
  verifyAlone,
  verifyAncestry,
} from './membership.ts';
import {
  ALICE,
  AUTHORITY,
  certify,
  DRIFT,
  FOUNDER,
  genesisRecord,
  idOf,
  MALLORY,
  NOW,
  networkOf,
  rulesOf,
  SECOND,
  write,
} from './network.fixture.ts';
import { bytesOf, NOON } from './records.fixture.ts';
import {
  type Certificate,
  decodeCertificate,
  decodeCommentary,
  decodeRevocation,
  encodeCertificate,
  encodeCommentary,
  encodeRevocation,
} from './statements.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';

const genesis = networkOf();
const links = [bytesOf('one'), bytesOf('two')];

const outcome = (action: () => unknown): string => {
  try {
    action();
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};
const alone = (record: DagRecord, network = genesis) => outcome(() => verifyAlone(record, network));

describe('genesis', () => {
  test('is a member of the network that it begins, and of no other', () => {
    expect(alone(genesisRecord())).toBe('accepted');
    expect(alone(genesisRecord({ name: 'another' }))).toBe('RECORD_GENESIS');
    expect(toHex(genesis.id)).toBe(idOf(genesisRecord()));
    expect(genesis.rules).toEqual(rulesOf());
  });

  test.each<[string, object]>([
    ['without a rule', { drift: undefined }],
    ['with a rule too many', { more: 1 }],
    ['of another version', { version: 2 }],
    ['whose values are larger than values can be', { maxValue: 65_537 }],
    ['that asks for more links than there can be', { minLinks: 16 }],
    ['that asks for no links', { minLinks: 0 }],
    ['whose rules can be amended', { amendable: ['maxValue'] }],
    ['that wants certificates of nobody', { certificateRequired: true, authorities: [] }],
    ['with an authority that is no key', { authorities: ['00'] }],
  ])('%s is none', (_, change) => {
    const value = utf8(JSON.stringify({ ...rulesOf(), ...change }));
    expect(outcome(() => genesisOf(write(FOUNDER, { type: 'genesis', value })))).toBe('RECORD_GENESIS');
  });

  test('is UTF-8, and is not mended where it is not', () => {
    const of = (bytes: Uint8Array) =>
      outcome(() => genesisOf(write(FOUNDER, { type: 'genesis', value: bytes })));
    const text = JSON.stringify(rulesOf({ contact: 'X' }));
    expect(of(utf8(text))).toBe('accepted');
    expect(of(utf8(`\ufeff${text}`))).toBe('RECORD_GENESIS');
    const broken = new Uint8Array(Buffer.from(text.replace('X', '\xff'), 'latin1'));
    expect(of(broken)).toBe('RECORD_GENESIS');
    const amended = new Uint8Array(Buffer.from('{"contact":"\xff"}', 'latin1'));
    expect(alone(write(FOUNDER, { type: 'genesis', links, value: amended }))).toBe('RECORD_AMENDMENT');
  });

  test('has nothing but its rules', () => {
    const value = genesisValue(rulesOf());
    const first = write(FOUNDER, { type: 'genesis', value });
    expect(outcome(() => genesisOf(first))).toBe('accepted');
    expect(outcome(() => genesisOf(write(FOUNDER, { type: 'genesis', value, links })))).toBe(
      'RECORD_GENESIS',
    );
    expect(outcome(() => genesisOf(write(FOUNDER, { value })))).toBe('RECORD_GENESIS');
    expect(outcome(() => genesisOf(write(FOUNDER, { type: 'genesis', value, shared: true })))).toBe(
      'RECORD_GENESIS',
    );
  });

  test('is amended by its owner, in the words that it says can be', () => {
    const amend = (said: object, by = FOUNDER) =>
      write(by, { type: 'genesis', links, value: utf8(JSON.stringify(said)) });
    expect(alone(amend({ contact: 'new' }))).toBe('accepted');
    expect(amendmentOf(amend({ contact: 'new' }), genesis.rules)).toEqual({ contact: 'new' });
    expect(alone(amend({ comment: 'new' }))).toBe('RECORD_AMENDMENT');
    expect(alone(amend({ maxValue: 9 }))).toBe('RECORD_AMENDMENT');
    expect(alone(amend({ contact: 'new' }, AUTHORITY))).toBe('RECORD_AUTHORITY');
  });
});

describe('a record by itself', () => {
  const certificate = withCertificate(bytesOf('certificate'));

  test('has links, and as many as genesis asks for unless it is of who could let anybody in', () => {
    expect(alone(write(ALICE, { links }, certificate))).toBe('accepted');
    expect(alone(write(ALICE, { links: links.slice(1) }, certificate))).toBe('RECORD_LINKS');
    for (const owner of [FOUNDER, AUTHORITY]) {
      expect(alone(write(owner, { links: links.slice(1) }))).toBe('accepted');
      expect(alone(write(owner, { links: [] }))).toBe('RECORD_LINKS');
    }
  });

  test('has a value as large as genesis allows, also when that was pruned', () => {
    expect(alone(write(FOUNDER, { links, value: new Uint8Array(1024) }))).toBe('accepted');
    expect(alone(write(FOUNDER, { links, value: new Uint8Array(1025) }))).toBe('RECORD_VALUE');
    const value = { kind: 'pruned', length: 1025, hash: bytesOf('x') } as const;
    expect(alone({ ...write(FOUNDER, { links }), value })).toBe('RECORD_VALUE');
  });

  test('has a permit', () => {
    expect(alone(write(MALLORY, { links }))).toBe('RECORD_PERMIT');
    const claimed = {
      kind: 'work',
      difficulty: 1,
      nonce: new Uint8Array(16),
      solution: new Uint8Array(68),
    } as const;
    expect(alone(write(MALLORY, { links }, () => claimed))).toBe('RECORD_WORK');
    expect(
      alone(
        write(MALLORY, { links }, () => claimed),
        networkOf({ bytesPerSolution: 10 }),
      ),
    ).toBe('RECORD_PRICE');
    expect(
      alone(
        write(MALLORY, { links }, () => claimed),
        networkOf({ certificateRequired: true }),
      ),
    ).toBe('RECORD_PERMIT');
  });

  test('is signed', () => {
    const record = write(FOUNDER, { links });
    const signature = record.signature.with(0, record.signature[0]! ^ 1);
    expect(alone({ ...record, signature })).toBe('RECORD_SIGNATURE');
  });

  test('says what its type says, by who may say it', () => {
    const statement = (type: DagRecord['type'], value: Uint8Array, by = AUTHORITY) =>
      alone(write(by, { type, links, value }, by === ALICE ? certificate : undefined));
    const certified = encodeCertificate({ subject: bytesOf('x'), serial: 1n, notBefore: 1, notAfter: 2 });
    expect(statement('certificate', certified)).toBe('accepted');
    expect(statement('certificate', certified.with(45, 9))).toBe('RECORD_CERTIFICATE');
    expect(statement('certificate', certified.subarray(1))).toBe('RECORD_CERTIFICATE');
    expect(statement('revocation', encodeRevocation(1n))).toBe('accepted');
    expect(statement('revocation', new Uint8Array(9))).toBe('RECORD_REVOCATION');
    for (const by of [FOUNDER, ALICE]) {
      expect(statement('certificate', certified, by)).toBe('RECORD_AUTHORITY');
      expect(statement('revocation', encodeRevocation(1n), by)).toBe('RECORD_AUTHORITY');
    }
    const suspect = encodeCommentary({ subject: bytesOf('x'), opinion: 'suspect' });
    expect(statement('commentary', suspect, ALICE)).toBe('accepted');
    expect(statement('commentary', suspect.with(32, 2), ALICE)).toBe('RECORD_COMMENTARY');
    expect(statement('commentary', suspect.subarray(1), ALICE)).toBe('RECORD_COMMENTARY');
  });

  test('statements are read as they were written', () => {
    const certificate: Certificate = {
      subject: bytesOf('x'),
      serial: 2n ** 64n - 1n,
      notBefore: 0,
      notAfter: 2 ** 48 - 1,
    };
    expect(decodeCertificate(encodeCertificate(certificate))).toEqual(certificate);
    expect(decodeRevocation(encodeRevocation(7n))).toBe(7n);
    const commentary = { subject: bytesOf('x'), opinion: 'suspect' } as const;
    expect(decodeCommentary(encodeCommentary(commentary))).toEqual(commentary);
    for (const change of [{ notBefore: -1 }, { notAfter: 2 ** 48 }, { notBefore: 5, notAfter: 4 }]) {
      expect(outcome(() => encodeCertificate({ ...certificate, ...change }))).toBe('RECORD_CERTIFICATE');
    }
  });
});

describe('what a record stands on', () => {
  const facts = (newest: number, certificate?: Certificate): MemberFacts => ({
    newest,
    ...(certificate && { certificate }),
  });
  const certificate: Certificate = {
    subject: publicKeyOfSeed(ALICE),
    serial: 1n,
    notBefore: NOON,
    notAfter: NOON + 10 * SECOND,
  };
  const certificateId = bytesOf('certificate');
  const judge = (record: DagRecord, named: MemberFacts | undefined, linked = facts(NOON)) => {
    const factsOf = (id: string) => (id === toHex(certificateId) ? named : linked);
    return outcome(() => expect(verifyAncestry(record, genesis, factsOf)).toEqual([]));
  };
  const at = (timestamp: number, owner = ALICE) =>
    write(owner, { links, timestamp }, withCertificate(certificateId));

  test('links and certificate are waited for', () => {
    const record = at(NOON);
    expect(dependenciesOf(record).toSorted()).toEqual([...links, certificateId].map(toHex).toSorted());
    expect(verifyAncestry(record, genesis, () => undefined).toSorted()).toEqual(
      dependenciesOf(record).toSorted(),
    );
    const only = (id: string) => (id === toHex(links[0]!) ? facts(NOON) : undefined);
    expect(verifyAncestry(record, genesis, only)).toHaveLength(2);
  });

  test('it is not earlier than any of that, but for the drift of clocks', () => {
    const late = facts(NOON + DRIFT);
    expect(judge(at(NOON), facts(NOON, certificate), late)).toBe('accepted');
    expect(judge(at(NOON), facts(NOON, certificate), facts(NOON + DRIFT + 1))).toBe('RECORD_BACKDATED');
    expect(judge(at(NOON), facts(NOON + DRIFT + 1, certificate))).toBe('RECORD_BACKDATED');
  });

  test('a chain goes back by one drift and not by one for each record', () => {
    const first = write(FOUNDER, { links, timestamp: NOON + DRIFT });
    const second = write(FOUNDER, { links: [recordId(first)], timestamp: NOON });
    const third = write(FOUNDER, { links: [recordId(second)], timestamp: NOON - 1 });
    const known = new Map<string, MemberFacts>(links.map((id) => [toHex(id), facts(NOON)]));
    const factsOf = (id: string) => known.get(id);
    for (const record of [first, second]) {
      expect(verifyAncestry(record, genesis, factsOf)).toEqual([]);
      known.set(idOf(record), factsOfMember(record, factsOf));
    }
    expect(outcome(() => verifyAncestry(third, genesis, factsOf))).toBe('RECORD_BACKDATED');
  });

  test('a certificate is judged at the time of the record, whatever the time is now', () => {
    const named = facts(NOON, certificate);
    expect(judge(at(NOON - 1), named)).toBe('RECORD_CERTIFICATE');
    expect(judge(at(NOON), named)).toBe('accepted');
    expect(judge(at(NOON + 10 * SECOND), named)).toBe('accepted');
    expect(judge(at(NOON + 10 * SECOND + 1), named)).toBe('RECORD_CERTIFICATE');
  });

  test('a certificate of another owner, and a record that is no certificate, let nobody in', () => {
    expect(judge(at(NOON, MALLORY), facts(NOON, certificate))).toBe('RECORD_CERTIFICATE');
    expect(judge(at(NOON), facts(NOON))).toBe('RECORD_CERTIFICATE');
  });

  test('a certificate that was made says of itself what its successors need', () => {
    const record = certify(links);
    const said = factsOfMember(record, () => facts(NOON + 3 * SECOND));
    expect(said.newest).toBe(NOON + 3 * SECOND);
    expect(said.certificate?.serial).toBe(1n);
    expect(factsOfMember(write(FOUNDER, { links }), () => facts(0))).toEqual({ newest: NOON });
  });

  test('the clock only says what has to wait', () => {
    expect(isEarly(at(NOW + DRIFT), genesis, NOW)).toBe(false);
    expect(isEarly(at(NOW + DRIFT + 1), genesis, NOW)).toBe(true);
    expect(judge(at(NOON), facts(NOON, certificate))).toBe('accepted');
  });
});
