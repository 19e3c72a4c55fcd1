/**
 * The simulated platform, as the guest sees it: the quoting service on the host, asked one question at a time
 * (lib/protocol/quoting-messages.ts).
 */
import { randomBytes } from 'node:crypto';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { LineSplitter } from '../../lib/protocol/lines.ts';
import {
  MAX_QUOTING_REPLY,
  parseQuotingReply,
  type QuotingReply,
  type QuotingRequest,
} from '../../lib/protocol/quoting-messages.ts';
import type { Channel } from './channel.ts';
import type { AttestationDevice } from './device.ts';

/** Emulated machines are slow, and the service signs in software. */
const REPLY_WITHIN_MS = 30_000;
/** What an earlier daemon may have left in the port, in lines, before we give up on finding our reply. */
const MAX_STRAY_LINES = 64;

type Question = QuotingRequest extends infer R ? (R extends { id: string } ? Omit<R, 'id'> : never) : never;

/** @param replyWithin milliseconds for each question */
export function simulatedDevice(channel: Channel, replyWithin: number = REPLY_WITHIN_MS): AttestationDevice {
  const splitter = new LineSplitter(MAX_QUOTING_REPLY);
  const lines: QuotingReply[] = [];
  let last: Promise<unknown> = Promise.resolve();

  /** One question at a time: an answer belongs to the question before it. */
  function ask(question: Question): Promise<QuotingReply> {
    const answer = last.then(
      () => exchange(question),
      () => exchange(question),
    );
    last = answer;
    return answer;
  }

  async function exchange(question: Question): Promise<QuotingReply> {
    const deadline = performance.now() + replyWithin;
    const id = toHex(randomBytes(8));
    // The empty line ends whatever half line an earlier daemon left behind.
    await channel.write(utf8(`\n${JSON.stringify({ id, ...question })}\n`), deadline);
    for (let stray = 0; stray < MAX_STRAY_LINES; stray++) {
      const reply = await nextReply(deadline);
      if (reply.id !== id) continue;
      if ('error' in reply) {
        throw new DstackError('QUOTING_REFUSED', `the quoting service refused: ${reply.error.code}`);
      }
      return reply;
    }
    throw new DstackError('QUOTING_REPLY', 'the quoting service answers other questions than ours');
  }

  async function nextReply(deadline: number): Promise<QuotingReply> {
    for (;;) {
      const ready = lines.shift();
      if (ready !== undefined) return ready;
      for (const line of splitter.push(await channel.read(deadline))) {
        const reply = 'text' in line ? parseQuotingReply(line.text) : null;
        if (reply !== null) lines.push(reply);
      }
    }
  }

  return {
    kind: 'simulated',
    async readRtmr3() {
      const reply = await ask({ op: 'read' });
      if (!('registers' in reply)) throw wrongReply('read');
      return fromHex(reply.registers.rtmr3, 48);
    },
    async extendRtmr3(digest) {
      const reply = await ask({ op: 'extend', register: 3, digest: toHex(digest) });
      if (!('rtmr3' in reply)) throw wrongReply('extend');
    },
    async quote(reportData) {
      const reply = await ask({ op: 'quote', reportData: toHex(reportData) });
      if (!('quote' in reply)) throw wrongReply('quote');
      return fromHex(reply.quote);
    },
  };
}

function wrongReply(op: string): DstackError {
  return new DstackError('QUOTING_REPLY', `the quoting service answered ${op} with something else`);
}
