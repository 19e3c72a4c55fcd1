/**
 * Quotes for apps. Report data is what tells a quote for an app from a node's own statements, so this process makes it from its parts
 * (`appReportData`): an app names no byte of it but what is hashed as its own data. The one way around that is `rawQuotes` of network.json,
 * which is measured.
 */
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import {
  eventDigest,
  expectedJoinedLog,
  type RegisterEvent,
  replay,
} from '../../lib/attestation/registers/event-log.ts';
import { extendRegister, zeroRegister } from '../../lib/attestation/registers/rtmr.ts';
import { bytesEqual, fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appReportData } from '../../lib/protocol/report-data.ts';
import type { AppQuoteReply, MachineReply } from '../../lib/protocol/sockets.ts';
import type { Attestor } from './attestor.ts';
import type { Identity } from './identity.ts';

export interface AppQuotes {
  /** A quote over the statement of an app. `manifestHash` is 32 bytes. @throws the attestor's codes */
  quote(app: string, manifestHash: Uint8Array, data: Uint8Array): Promise<AppQuoteReply>;
  /** A quote over these 64 bytes. @throws RAW_QUOTES_OFF unless network.json names this app */
  raw(app: string, reportData: Uint8Array): Promise<AppQuoteReply>;
  /** What every quote of this node shows from now on. */
  machine(): Promise<MachineReply>;
}

/** The event type of what the guest itself said: no type of the firmware's (TCG PC Client Platform Firmware Profile, section 10.4.1). */
const GUEST_EVENT = 0x08000001;

export function appQuotes(
  identity: Pick<Identity, 'image' | 'network' | 'config'>,
  attestor: Pick<Attestor, 'quote' | 'firmwareLog'>,
): AppQuotes {
  const { flavour } = identity.image;
  const { rawQuotes } = identity.network;
  let known: Promise<MachineReply> | undefined;

  async function over(reportData: Uint8Array): Promise<AppQuoteReply> {
    return { quote: toHex(await attestor.quote(reportData)), reportData: toHex(reportData) };
  }

  async function look(): Promise<MachineReply> {
    // Over no statement of ours: it is read here and goes nowhere.
    const { body } = parseQuote(await attestor.quote(new Uint8Array(64)));
    if (body.kind === 'sgx') throw new DstackError('QUOTE_TEE_TYPE', 'the quote is not one of a TD');
    const own = expectedJoinedLog(flavour, identity.config);
    if (!bytesEqual(body.rtmr3, replay(own)))
      throw new DstackError('RTMR3_UNEXPECTED', 'RTMR3 is not what this node extended it with');
    const firmware = await attestor.firmwareLog();
    const events = ([0, 1, 2] as const).flatMap((register) => {
      const measured = firmware.filter((event) => event.register === `rtmr${register}`);
      const value = measured.reduce(
        (before, { digest }) => extendRegister(before, fromHex(digest)),
        zeroRegister(),
      );
      // A log that does not lead to the register explains nothing, and must not look as if it did.
      if (!bytesEqual(value, body[`rtmr${register}`])) return [];
      return measured.map(({ type, digest }) => ({ register, type, digest, name: '', payload: toHex(NONE) }));
    });
    return {
      mrtd: toHex(body.mrtd),
      rtmr0: toHex(body.rtmr0),
      rtmr1: toHex(body.rtmr1),
      rtmr2: toHex(body.rtmr2),
      rtmr3: toHex(body.rtmr3),
      events: [...events, ...own.map(guestEvent)],
      ...(rawQuotes === undefined ? {} : { rawQuotes }),
    };
  }

  return {
    quote: (app, manifestHash, data) => over(appReportData(app, manifestHash, data)),
    async raw(app, reportData) {
      if (app !== rawQuotes) {
        throw new DstackError(
          'RAW_QUOTES_OFF',
          `a quote over report data of the app's choice needs rawQuotes of network.json to be ${app}, and it is ${rawQuotes ?? 'left out'}; ask for a quote over the app's statement, POST /v1/quote`,
        );
      }
      return over(reportData);
    },
    machine() {
      known ??= look().catch((error: unknown) => {
        known = undefined;
        throw error;
      });
      return known;
    },
  };
}

const NONE = new Uint8Array(0);
const guestEvent = (event: RegisterEvent): MachineReply['events'][number] => ({
  register: 3,
  type: GUEST_EVENT,
  digest: toHex(eventDigest(event)),
  name: event.name,
  payload: toHex(event.bytes),
});
