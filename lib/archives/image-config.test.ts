import { expect, test } from 'vitest';
import { utf8 } from '../protocol/encoding.ts';
import { codeOf } from '../protocol/errors.ts';
import { assertImageConfig, IMAGE_CONFIG_MAX_BYTES } from './image-config.ts';

const verdict = (fields: object): string => {
  try {
    assertImageConfig(utf8(JSON.stringify({ os: 'linux', ...fields })));
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};
const ports = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`${n + 1}/tcp`, {}]));

test.each<[string, object]>([
  ['little', { config: { Labels: { a: 'b' }, Cmd: ['/x'], ExposedPorts: { '80': {}, '53/udp': {} } } }],
  ['nothing', {}],
  ['variables with values', { config: { Env: ['PATH=/bin', 'EMPTY='] }, container_config: { Env: null } }],
  ['no ports', { config: { ExposedPorts: null } }],
  ['as many ports as there may be', { config: { ExposedPorts: ports(64) } }],
  ['a long history, of which the engine says nothing', { history: [{ created_by: 'x'.repeat(500_000) }] }],
])('%s is fine', (_, fields) => {
  expect(verdict(fields)).toBe('accepted');
});

test.each<[string, object]>([
  ['a label that is long', { config: { Labels: { x: 'x'.repeat(IMAGE_CONFIG_MAX_BYTES) } } }],
  ['one that the engine writes six times as long', { config: { Labels: { x: '<'.repeat(6_000) } } }],
  ['a long command', { config: { Cmd: ['/x', '&'.repeat(6_000)] } }],
  ["a variable of the engine's", { config: { Env: ['PATH=/bin', 'HOME'] } }],
  ["all of the engine's, under another name", { Config: { ENV: ['*'] } }],
  ['a range of ports', { config: { ExposedPorts: { '1-65535/tcp': {} } } }],
  ['many ports', { config: { ExposedPorts: ports(65) } }],
  [
    'a range under a name that the engine takes for the same',
    { Config: { 'expo\u017fedport\u017f': { '1-65535': {} } } },
  ],
])('%s is refused', (_, fields) => {
  expect(verdict(fields)).toBe('IMAGE_CONFIG');
});
