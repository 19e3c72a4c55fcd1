import { expect, test } from 'vitest';
import { parseAddress, parseConfig } from './config.ts';
import { configTemplate } from './template.ts';

const template = configTemplate({
  chainId: 'testchain-1',
  protocol: 'v0.38',
  address: 'tcp://127.0.0.1:26659',
  endpoint: 'http://127.0.0.1:2379',
  prefix: 'cosmosvalconspub',
});

test('what init writes is read, and is the safe choice everywhere', () => {
  expect(parseConfig(template)).toMatchObject({
    acceptHostRollback: false,
    chains: [{ id: 'testchain-1', protocol: 'v0.38', key: 'network', signsBytes: false }],
    validators: [{ chainId: 'testchain-1', address: { kind: 'tcp', host: '127.0.0.1', port: 26659 } }],
    statusListen: 'tcp://127.0.0.1:26661',
    recipients: [],
  });
});

test.each([
  ['[validator', /no TOML/],
  [template.replace('[status]', '[status]\nport = 1'), /status\.port is no field; there are listen/],
  [template.replace('"v0.38"', '"v0.33"'), /v0\.34 or v0\.37 or v0\.38 or v1 or celestia/],
  [template.replace('id = "testchain-1"', 'id = "test/chain"'), /letters, digits/],
  [template.replace('chain_id = "testchain-1"', 'chain_id = "other"'), /other.*not there/],
  [`${template}\n[[chain]]\nid = "testchain-1"\nprotocol_version = "v1"\n`, /twice/],
  [template.replace('# sign_bytes = true', 'sign_bytes = true'), /v1 only/],
  [template.replace('tcp://127.0.0.1:26659', 'tcp://127.0.0.1'), /is no address/],
  [template.replace('address =', 'addr ='), /addr: it is called address/],
  [`a${'.a'.repeat(50_000)} = 1\n${template}`, /nested deeper than 16/],
  [`${template}\n[a${'.a'.repeat(50_000)}]`, /nested deeper than 16/],
  [`state_file_path = "x"\n${template}`, /state_file_path: what was signed is in the store/],
  [
    template.replace('[status]', '[[providers.softsign]]\npath = "x"\n[status]'),
    /providers: keys are derived/,
  ],
  [
    template.replace('[status]', 'reconnect = true\n[status]'),
    /validator\.reconnect: the signer always dials again/,
  ],
])('a mistake is refused with its reason', (text, words) => {
  expect(() => parseConfig(text)).toThrow(words);
  expect(() => parseConfig(text)).toThrow(expect.objectContaining({ code: 'SIGNER_CONFIG' }));
});

test('addresses', () => {
  const id = 'AB'.repeat(20);
  expect(parseAddress(`tcp://${id}@node.example:26659`)).toMatchObject({
    nodeId: id.toLowerCase(),
    host: 'node.example',
  });
  expect(parseAddress('tcp://[::1]:1')).toMatchObject({ host: '::1', port: 1 });
  expect(parseAddress('unix:///run/node.sock')).toMatchObject({ kind: 'unix', path: '/run/node.sock' });
  for (const wrong of [
    ...['unix://relative', 'tcp://a:70000', 'tcp://abc@a:1', 'http://a:1', 'tcp://a b:1'],
    ...['unix:///a\0b', 'tcp://[:::]:1', 'tcp://[10.0.0.1]:1', 'tcp://10.0.0.1:1/'],
  ]) {
    expect(() => parseAddress(wrong), wrong).toThrow('is no address');
  }
  // What the system takes is a byte shorter than its field.
  expect(parseAddress(`unix:///${'x'.repeat(106)}`).kind).toBe('unix');
  expect(() => parseAddress(`unix:///${'x'.repeat(107)}`)).toThrow('107 bytes at most');
});

test('two validators at one place, however it is written', () => {
  const again = `tcp://${'ab'.repeat(20)}@127.0.0.1:26659`;
  const second = `[[validator]]\nchain_id = "testchain-1"\naddress = "${again}"\n[status]`;
  expect(() => parseConfig(template.replace('[status]', second))).toThrow(
    'two validators are at 127.0.0.1:26659',
  );
});
