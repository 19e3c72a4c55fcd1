/**
 * RTMR3 as a state machine: zero → requesting → joined. Only a reset of the machine leads back, and any other value means that
 * something other than this daemon extended the register.
 */
import {
  eventDigest,
  expectedJoinedLog,
  expectedRequestLog,
  JOINED_EVENT,
  replay,
} from '../../lib/attestation/registers/event-log.ts';
import { zeroRegister } from '../../lib/attestation/registers/rtmr.ts';
import { bytesEqual, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { AttestationDevice } from './device.ts';

export type RegisterState = 'zero' | 'requesting' | 'joined';

export interface RegisterLog {
  /** Read from the device every time. @throws RTMR3_UNEXPECTED */
  state(): Promise<RegisterState>;
  /** At start: extends by flavour and config if the register is zero. Returns the resulting state. @throws RTMR3_UNEXPECTED */
  establish(): Promise<RegisterState>;
  /** Ends this machine's right to ask for the secret. Extends only once, however often it is called. @throws RTMR3_UNEXPECTED */
  join(): Promise<void>;
}

/** The log of a machine with this flavour and config (32 bytes). */
export function registerLog(device: AttestationDevice, flavour: Flavour, config: Uint8Array): RegisterLog {
  const requestLog = expectedRequestLog(flavour, config);
  const values: ReadonlyArray<readonly [RegisterState, Uint8Array]> = [
    ['zero', zeroRegister()],
    ['requesting', replay(requestLog)],
    ['joined', replay(expectedJoinedLog(flavour, config))],
  ];
  let joining: Promise<void> | undefined;

  async function state(): Promise<RegisterState> {
    const rtmr3 = await device.readRtmr3();
    const known = values.find(([, value]) => bytesEqual(value, rtmr3));
    if (known === undefined) {
      throw new DstackError(
        'RTMR3_UNEXPECTED',
        `RTMR3 is ${toHex(rtmr3)}, which no start of this image leads to`,
      );
    }
    return known[0];
  }

  async function require(expected: RegisterState): Promise<void> {
    const actual = await state();
    if (actual !== expected) {
      throw new DstackError('RTMR3_UNEXPECTED', `RTMR3 says ${actual} where it must say ${expected}`);
    }
  }

  async function joinOnce(): Promise<void> {
    // Read first: an earlier call may have timed out and extended the register all the same.
    if ((await state()) === 'joined') return;
    await require('requesting');
    await device.extendRtmr3(eventDigest(JOINED_EVENT));
    await require('joined');
  }

  return {
    state,
    async establish() {
      const found = await state();
      if (found !== 'zero') return found;
      for (const event of requestLog) await device.extendRtmr3(eventDigest(event));
      await require('requesting');
      return 'requesting';
    },
    join() {
      // Two concurrent calls must not both find the register unextended.
      joining ??= joinOnce().finally(() => {
        joining = undefined;
      });
      return joining;
    },
  };
}
