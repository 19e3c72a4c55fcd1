import { expect, test } from 'vitest';
import { requireRecords } from './persist-record.ts';

const account = { url: 'https://acme.example/account/1', issuers: ['acme.example', 'old.example'] };
const good = `acme.example; accounturi=${account.url}`;
/** By name; what is not in it does not exist, and an Error is thrown. */
const resolver = (records: Record<string, string[] | Error>) => ({
  resolveTxt: async (name: string): Promise<string[][]> => {
    const found = records[name];
    if (found === undefined) throw Object.assign(new Error('none'), { code: 'ENOTFOUND' });
    if (found instanceof Error) throw found;
    return found.map((text) => [text.slice(0, 10), text.slice(10)]);
  },
});
const codeFor = (records: Record<string, string[] | Error>, names = ['www.site.example']) =>
  requireRecords(names, account, resolver(records)).then(
    () => 'set',
    (error) => error.code,
  );
const AT = '_validation-persist.www.site.example';
const ABOVE = '_validation-persist.site.example';

test.each<[what: string, code: string, records: Record<string, string[] | Error>]>([
  ['none', 'ACME_RECORD_MISSING', {}],
  ['one', 'set', { [AT]: [good] }],
  ['one among others', 'set', { [AT]: ['v=spf1', `other.example; accounturi=${account.url}`, good] }],
  [
    'one for another name of the authority, in capitals',
    'set',
    { [AT]: [good.replace('acme.example', 'OLD.example')] },
  ],
  ['one for another account', 'ACME_RECORD_MISSING', { [AT]: [`${good}0`] }],
  ['one without an account', 'ACME_RECORD_MISSING', { [AT]: ['acme.example'] }],
  ['one of another authority', 'ACME_RECORD_MISSING', { [AT]: [`other.example; accounturi=${account.url}`] }],
  ['one above, for that name alone', 'ACME_RECORD_MISSING', { [ABOVE]: [good] }],
  ['one above, for all names below', 'set', { [ABOVE]: [`${good}; policy=wildcard`] }],
  ['a name server that fails', 'set', { [AT]: Object.assign(new Error('no'), { code: 'ESERVFAIL' }) }],
])('%s: %s', async (_, code, records) => {
  expect(await codeFor(records)).toBe(code);
});

test('every name needs one', async () => {
  expect(await codeFor({ [ABOVE]: [good] }, ['site.example', 'www.site.example'])).toBe(
    'ACME_RECORD_MISSING',
  );
});
