import { expect, test } from 'vitest';
import {
  eventDigest,
  expectedJoinedLog,
  expectedRequestLog,
  JOINED_EVENT,
  replay,
} from '../../lib/attestation/registers/event-log.ts';
import { extendRegister, zeroRegister } from '../../lib/attestation/registers/rtmr.ts';
import { sha256, utf8 } from '../../lib/protocol/encoding.ts';
import type { AttestationDevice } from './device.ts';
import { registerLog } from './register-log.ts';

const CONFIG = sha256(utf8('network.json'));

/** A machine with one register, which counts its extensions and can lose an answer. */
function machine(start: Uint8Array = zeroRegister()) {
  const state = { rtmr3: start, extensions: 0, loseNextAnswer: false };
  const device: AttestationDevice = {
    kind: 'simulated',
    readRtmr3: async () => state.rtmr3,
    extendRtmr3: async (digest) => {
      state.rtmr3 = extendRegister(state.rtmr3, digest);
      state.extensions++;
      if (state.loseNextAnswer) {
        state.loseNextAnswer = false;
        throw new Error('the answer got lost');
      }
    },
    quote: async () => new Uint8Array(0),
    firmwareLog: async () => undefined,
  };
  return { state, device };
}

test.each([
  ['production', 1],
  ['sim', 2],
  ['dev', 2],
] as const)(
  '%s: a fresh machine gets its events, a daemon started again adds none',
  async (flavour, events) => {
    const { state, device } = machine();
    expect(await registerLog(device, flavour, CONFIG).establish()).toBe('requesting');
    expect(state.rtmr3).toEqual(replay(expectedRequestLog(flavour, CONFIG)));
    expect(await registerLog(device, flavour, CONFIG).establish()).toBe('requesting');
    expect(state.extensions).toBe(events);
  },
);

test('joined is extended once, however often and at whatever time it is asked for', async () => {
  const { state, device } = machine();
  const log = registerLog(device, 'sim', CONFIG);
  await log.establish();
  await Promise.all([log.join(), log.join(), log.join()]);
  await log.join();
  await registerLog(device, 'sim', CONFIG).join();
  expect(state.extensions).toBe(3);
  expect(state.rtmr3).toEqual(replay(expectedJoinedLog('sim', CONFIG)));
  expect(await registerLog(device, 'sim', CONFIG).establish()).toBe('joined');
});

test('an extension whose answer got lost is not made twice', async () => {
  const { state, device } = machine();
  const log = registerLog(device, 'sim', CONFIG);
  await log.establish();
  state.loseNextAnswer = true;
  await expect(log.join()).rejects.toThrow('lost');
  await log.join();
  expect(state.extensions).toBe(3);
});

test.each<[string, Uint8Array]>([
  ['another config', replay(expectedRequestLog('sim', sha256(CONFIG)))],
  ['another flavour', replay(expectedRequestLog('dev', CONFIG))],
  ['half a start', replay(expectedRequestLog('sim', CONFIG).slice(0, 1))],
  ['joined twice', replay([...expectedJoinedLog('sim', CONFIG), JOINED_EVENT])],
  [
    'an unknown event',
    extendRegister(replay(expectedRequestLog('sim', CONFIG)), eventDigest(JOINED_EVENT).reverse()),
  ],
])('%s in the register is fatal, and is not extended', async (_, start) => {
  const { state, device } = machine(start);
  const log = registerLog(device, 'sim', CONFIG);
  await expect(log.establish()).rejects.toMatchObject({ code: 'RTMR3_UNEXPECTED' });
  await expect(log.join()).rejects.toMatchObject({ code: 'RTMR3_UNEXPECTED' });
  expect(state.extensions).toBe(0);
});

test('a machine that was never established cannot join', async () => {
  const { state, device } = machine();
  await expect(registerLog(device, 'sim', CONFIG).join()).rejects.toMatchObject({ code: 'RTMR3_UNEXPECTED' });
  expect(state.extensions).toBe(0);
});

test('a platform that does not extend is found out at once', async () => {
  const { device } = machine();
  const lying: AttestationDevice = { ...device, extendRtmr3: async () => {} };
  await expect(registerLog(lying, 'sim', CONFIG).establish()).rejects.toMatchObject({
    code: 'RTMR3_UNEXPECTED',
  });
});
