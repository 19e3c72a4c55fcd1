import { expect, test } from 'vitest';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { makeRecord, withoutPermit } from '../../../lib/protocol/records/make.ts';
import { verifyAlone } from '../../../lib/protocol/records/membership.ts';
import { FOUNDER } from '../../../lib/protocol/records/network.fixture.ts';
import { createRecords } from '../folder.ts';
import { freshFolder, openNode } from '../records.fixture.ts';
import { DEFAULT_BEGAN, DEFAULT_RULES, defaultGenesis, defaultNetwork } from './default-network.ts';
import { parseGenesis } from './genesis-file.ts';

test('the built-in genesis is the network that it says, by the rules that it says, and nothing else', () => {
  const { genesis, records } = parseGenesis(defaultGenesis());
  expect(toHex(genesis.id)).toBe(defaultNetwork);
  expect(genesis.rules).toEqual(DEFAULT_RULES);
  expect(genesis.timestamp).toBe(DEFAULT_BEGAN);
  expect(records).toHaveLength(DEFAULT_RULES.minLinks);
  for (const bytes of records) {
    const record = decodeRecord(bytes);
    expect(Buffer.from(encodeRecord(record))).toEqual(Buffer.from(bytes));
    expect(toHex(record.owner)).toBe(toHex(genesis.owner));
  }
});

test('a node begins with it, has what the first record links to, and takes none without work', async () => {
  const { genesis, records } = parseGenesis(defaultGenesis());
  const folder = freshFolder();
  createRecords(folder, records[0]!);
  const node = await openNode(folder, { now: () => DEFAULT_BEGAN + 1_000 });
  expect(node.network).toBe(defaultNetwork);
  for (const bytes of records) await node.add(bytes, '');
  expect(node.linksFor(DEFAULT_BEGAN + 1_000)).toHaveLength(DEFAULT_RULES.minLinks);
  const free = makeRecord(
    {
      type: 'datum',
      timestamp: DEFAULT_BEGAN + 1_000,
      links: records.map((bytes) => recordId(decodeRecord(bytes))).toSorted(Buffer.compare),
      names: [],
      value: new Uint8Array(8),
    },
    FOUNDER,
    withoutPermit,
  );
  let code = 'taken';
  try {
    verifyAlone(free, genesis);
  } catch (error) {
    code = codeOf(error);
  }
  expect(code).toBe('RECORD_PERMIT');
  expect(await node.add(encodeRecord(free), 'peer')).toMatchObject({
    kind: 'refused',
    code: 'RECORD_PERMIT',
  });
});
