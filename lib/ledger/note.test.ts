import { expect, test } from 'vitest';
import notes from '../../testdata/ledger/notes.json' with { type: 'json' };
import { fromHex, toHex } from '../protocol/encoding.ts';
import { parseAddress } from '../protocol/hex.ts';
import { checkpointText, openCheckpoint, originOf, readCheckpoint, signCheckpoint } from './checkpoint.ts';
import { origin, signer } from './log.fixture.ts';
import { EMPTY_ROOT } from './merkle.ts';
import { noteSigner, openNote, parseNote, parseVerifierKey, signNote, verifierKey } from './note.ts';

const refusal = (code: string) => expect.objectContaining({ code });

test.each(notes.notes)("Go's notes: keys, signatures and texts are its own ($name)", (vector) => {
  const key = parseVerifierKey(vector.verifierKey);
  expect(verifierKey(key)).toBe(vector.verifierKey);
  expect(key.name).toBe(vector.name);
  expect(openNote(vector.note, [key]).text).toBe(vector.text);
  if (vector.seed === undefined) return;
  const signer = noteSigner(vector.name, fromHex(vector.seed));
  expect(verifierKey(signer)).toBe(vector.verifierKey);
  expect(signNote(vector.text, [signer])).toBe(vector.note);
});

test('a verifier key whose base64 has a plus is read', () => {
  const signers = Array.from({ length: 80 }, (_, at) => noteSigner('log', new Uint8Array(32).fill(at)));
  const withPlus = signers.filter((signer) => verifierKey(signer).split('+').length > 3);
  expect(withPlus.length).toBeGreaterThan(3);
  for (const one of withPlus)
    expect(toHex(parseVerifierKey(verifierKey(one)).publicKey)).toBe(toHex(one.publicKey));
});

test('verifier keys of another hash, type or form are refused', () => {
  const good = verifierKey(signer);
  const [name, id, key] = [good.split('+')[0]!, good.split('+')[1]!, good.split('+').slice(2).join('+')];
  const other = Buffer.from(key, 'base64');
  other[0] = 4;
  const forms = [
    `${name}+00000000+${key}`,
    `other+${id}+${key}`,
    `${name}+${id}`,
    `${name}+${id}+${key}x`,
    '',
  ];
  for (const text of [...forms, `${name}+${id}+${other.toString('base64')}`, ` ${good}`])
    expect(() => parseVerifierKey(text), text).toThrowError(refusal('VKEY_INVALID'));
});

test('several signatures: one known is enough, a false one by a known key is too much', () => {
  const [first, second] = [1, 2].map((fill) => noteSigner(`witness-${fill}`, new Uint8Array(32).fill(fill)));
  const note = signNote('text\n', [first!, second!]);
  expect(parseNote(note).signatures.map(({ name }) => name)).toEqual(['witness-1', 'witness-2']);
  expect(openNote(note, [second!]).text).toBe('text\n');
  expect(() => openNote(note, [signer])).toThrowError(refusal('NOTE_UNSIGNED'));
  expect(() => openNote(note.replace('text', 'test'), [second!])).toThrowError(refusal('NOTE_SIGNATURE'));
  // The name alone, or the id alone, makes no known key.
  expect(() => openNote(note, [{ ...second!, name: 'witness-3' }])).toThrowError(refusal('NOTE_UNSIGNED'));
  expect(() => openNote(note, [{ ...first!, name: 'witness-2' }])).toThrowError(refusal('NOTE_UNSIGNED'));
});

test('what is no note is refused', () => {
  const note = signNote('text\n', [signer]);
  const broken = [
    note.slice(0, -1),
    note.replace('\n\n', '\n'),
    note.replace('text', 'te\u0007xt'),
    note.replace('— ', '- '),
    `${note}\n`,
    note.replace(/ (\S+)\n$/, ' $1=\n'),
    'text\n\n',
    `${'x'.repeat(70_000)}${note}`,
    `text\n\n${note.split('\n\n')[1]!.repeat(65)}`,
  ];
  for (const text of broken)
    expect(() => parseNote(text), text.slice(0, 60)).toThrowError(refusal('NOTE_INVALID'));
  expect(() => signNote('no newline', [signer])).toThrowError(refusal('NOTE_INVALID'));
  expect(() => noteSigner('a name', new Uint8Array(32))).toThrowError(refusal('NOTE_NAME'));
});

test('a head names its network and its log, and is taken for no other', () => {
  const head = { origin, size: 20_852_163, root: EMPTY_ROOT, time: 1_764_421_380 };
  const note = signCheckpoint(head, [signer]);
  expect(checkpointText(head).split('\n')).toEqual([
    `dstack/kv/31337/0x${'ab'.repeat(20)}/${'03'.repeat(16)}`,
    '20852163',
    '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=',
    'time 1764421380',
    '',
  ]);
  expect(openCheckpoint(note, origin, [signer])).toEqual(head);
  const elsewhere = originOf(
    { chainId: 1, contract: parseAddress(`0x${'ab'.repeat(20)}`) },
    new Uint8Array(16),
  );
  expect(() => openCheckpoint(note, elsewhere, [signer])).toThrowError(refusal('CHECKPOINT_ORIGIN'));
});

test('a head without a time, or with lines of others, is read; what is none is refused', () => {
  const body = (text: string) => signNote(text, [signer]);
  const root = Buffer.from(EMPTY_ROOT).toString('base64');
  expect(readCheckpoint(body(`${origin}\n0\n${root}\n`))).toEqual({ origin, size: 0, root: EMPTY_ROOT });
  expect(readCheckpoint(body(`${origin}\n3\n${root}\nother line\ntime 5\n`)).time).toBe(5);
  const wrong = [
    '',
    '\n',
    `${origin}\n01\n${root}\n`,
    `${origin}\n-1\n${root}\n`,
    `${origin}\n1\nAAAA\n`,
    `${origin}\n1\n`,
  ];
  for (const text of [
    ...wrong.slice(1),
    `${origin}\n9007199254740993\n${root}\n`,
    `${origin}\n1\n${root}\n\nx\n`,
  ])
    expect(() => readCheckpoint(body(text)), text).toThrowError(refusal('CHECKPOINT_INVALID'));
});
