import { expect, test } from 'vitest';
import { type CaaPolicy, type CaaRecord, requireOwnAccount, zoneLines } from './caa.ts';

const account = 'https://ca.example/acct/1234';
const policy: CaaPolicy = {
  account,
  issuers: ['ca.example', 'other-name.example'],
  methods: ['http-01', 'dns-persist-01'],
};
const GOOD = `ca.example; accounturi=${account}; validationmethods=http-01`;

const record = (value: string, tag = 'issue'): CaaRecord => ({ flags: 0, tag, value });
const judge = (...records: CaaRecord[]) => requireOwnAccount(records, policy);
const refused = (code: string) => expect.objectContaining({ code });

test.each([
  ['as site dns prints it', [record(GOOD), record(';', 'issuewild')]],
  ['both methods', [record(GOOD.replace('http-01', 'http-01,dns-persist-01'))]],
  [
    'the other name of the authority, in capitals',
    [record(GOOD.replace('ca.example;', 'OTHER-name.example;'), 'Issue')],
  ],
  [
    'spaces where they may be',
    [record(` ca.example ;validationmethods = http-01 ;\taccounturi = ${account} `)],
  ],
  ['a parameter that is no matter of ours', [record(`${GOOD}; policy=ev`)]],
  [
    'properties of other things',
    [record(GOOD), record('mailto:a@b', 'iodef'), record('vmc.example', 'issuevmc')],
  ],
  ['a second record that lets nobody', [record(GOOD), record(';')]],
])('leaves no way but the account of the network: %s', (_, records) => {
  expect(() => judge(...records)).not.toThrow();
});

test.each([
  ['none', [], 'CAA_MISSING'],
  ['nobody may', [record(';'), record(GOOD, 'issuewild')], 'CAA_MISSING'],
  ['wildcards alone', [record(GOOD, 'issuewild')], 'CAA_MISSING'],
  ['another authority beside it', [record(GOOD), record('evil.example')], 'CAA_ISSUER'],
  ['another one for wildcards', [record(GOOD), record('evil.example', 'issuewild')], 'CAA_ISSUER'],
  ['a longer name', [record(GOOD.replace('ca.example;', 'ca.example.evil.example;'))], 'CAA_ISSUER'],
  ['no account', [record('ca.example; validationmethods=http-01')], 'CAA_ACCOUNT'],
  ["the host's account", [record(GOOD.replace('1234', '1235'))], 'CAA_ACCOUNT'],
  ['an account with the same beginning', [record(GOOD.replace('1234', '12345'))], 'CAA_ACCOUNT'],
  ['two accounts', [record(`${GOOD}; accounturi=${account}`)], 'CAA_ACCOUNT'],
  [
    'the account of a name that is no parameter',
    [record(GOOD.replace('accounturi', 'AccountURI'))],
    'CAA_ACCOUNT',
  ],
  ['no methods', [record(`ca.example; accounturi=${account}`)], 'CAA_METHODS'],
  ['a method that is not used', [record(`${GOOD},tls-alpn-01`)], 'CAA_METHODS'],
  ['an empty method', [record(`${GOOD},`)], 'CAA_METHODS'],
  ['methods twice', [record(`${GOOD}; validationmethods=http-01`)], 'CAA_METHODS'],
  ['a second record without an account', [record(GOOD), record('ca.example')], 'CAA_ACCOUNT'],
  ['a value that is none', [record(GOOD), record('%%%')], 'CAA_MALFORMED'],
  ['a parameter that is none', [record(`${GOOD}; x`)], 'CAA_MALFORMED'],
  ['an empty parameter', [record(`${GOOD};; x=y`)], 'CAA_MALFORMED'],
  ['a line break', [record(GOOD.replace('; a', ';\na'))], 'CAA_MALFORMED'],
])('leaves another way: %s', (_, records, code) => {
  expect(() => judge(...(records as CaaRecord[]))).toThrow(refused(code as string));
});

test('what the owner is told to set is what is looked for', () => {
  const lines = zoneLines('site.example', policy);
  expect(lines).toEqual([
    `site.example. IN CAA 0 issue "ca.example; accounturi=${account}; validationmethods=http-01,dns-persist-01"`,
    'site.example. IN CAA 0 issuewild ";"',
    `_validation-persist.site.example. IN TXT "ca.example; accounturi=${account}"`,
  ]);
  const records = lines.flatMap((line) => {
    const [, tag, value] = / CAA 0 (\w+) "(.*)"$/.exec(line) ?? [];
    return tag === undefined ? [] : [record(value!, tag)];
  });
  expect(() => judge(...records)).not.toThrow();
  expect(zoneLines('a.example', { ...policy, methods: ['http-01'] })).toHaveLength(2);
  expect(() => zoneLines('a.example', { ...policy, issuers: [] })).toThrow(refused('CAA_POLICY'));
});
