/**
 * One question of the DNS over HTTPS (RFC 8484), asked of a resolver that network.json names: for a name's CAA records. The
 * resolver's word is what counts here; who is on the way to it can keep it silent, and no more.
 */
import { Agent, request } from 'node:https';
import packet, {
  type CaaAnswer,
  type DecodedPacket,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from 'dns-packet';
import { answerTo } from '../../lib/daemon/http-answer.ts';
import { readBytes } from '../../lib/daemon/http-body.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { CaaRecord } from '../../lib/site/caa.ts';

export interface DohOptions {
  /** The resolver's URL: its path is for questions. */
  readonly resolver: string;
  readonly agent: Agent;
  readonly signal: AbortSignal;
}

const TYPE = 'application/dns-message';
/** A DNS message is no longer. */
const MAX_BYTES = 65_535;
/** More than an answer has; each may cost a way through all that a message can point at. */
const MAX_RECORDS = 100;
/** Aliases that are followed. */
const MAX_ALIASES = 8;

/** For the questions of one look at one resolver. @param roots PEM: by whom its TLS may be certified */
export const resolverAgent = (roots: readonly string[]): Agent =>
  new Agent({ keepAlive: true, maxSockets: 1, ca: [...roots], minVersion: 'TLSv1.2' });

/**
 * A name's CAA records, with aliases followed as the resolver does (RFC 8659, section 3); empty when it has none, or is not there.
 * @throws DNS_UNREACHABLE, DNS_ANSWER, DNS_REFUSED
 */
export async function caaOf(name: string, options: DohOptions): Promise<CaaRecord[]> {
  const question = packet.encode({
    type: 'query',
    // So that caches see the same question as the same (section 4.1).
    id: 0,
    flags: RECURSION_DESIRED,
    questions: [{ type: 'CAA', class: 'IN', name }],
  });
  const { host } = new URL(options.resolver);
  const answer = decoded(await exchange(question, options), host);
  requireAnswer(answer, name, host);
  // A name that is not there has no records, and neither has one below an alias that leads nowhere.
  if (answer.rcode === 'NXDOMAIN') return [];
  return recordsOf(answer, name, host);
}

async function exchange(question: Buffer, { resolver, agent, signal }: DohOptions): Promise<Buffer> {
  const { host } = new URL(resolver);
  try {
    const headers = { 'content-type': TYPE, 'content-length': question.length, accept: TYPE };
    const asked = request(resolver, { method: 'POST', headers, agent, signal });
    const answer = answerTo(asked);
    asked.end(question);
    const response = await answer;
    if (response.statusCode !== 200 || response.headers['content-type'] !== TYPE) {
      response.destroy();
      throw new DstackError('DNS_ANSWER', `${host} answers HTTP ${response.statusCode}, and no DNS message`);
    }
    return await readBytes(response, MAX_BYTES);
  } catch (cause) {
    if (cause instanceof DstackError && cause.code === 'DNS_ANSWER') throw cause;
    throw new DstackError(
      'DNS_UNREACHABLE',
      `no answer from ${host}: ${(cause as Error).message.slice(0, 200)}`,
      { cause },
    );
  }
}

type Answer = DecodedPacket & { rcode: string };

function decoded(bytes: Buffer, host: string): Answer {
  // The header's four counts (RFC 1035, section 4.1.1).
  const counts = bytes.length < 12 ? [] : [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  if (counts.reduce((sum, count) => sum + count, 0) > MAX_RECORDS)
    throw new DstackError('DNS_ANSWER', `${host} answers with more than ${MAX_RECORDS} records`);
  try {
    return packet.decode(bytes) as Answer;
  } catch (cause) {
    throw new DstackError('DNS_ANSWER', `what ${host} answers is no DNS message`, { cause });
  }
}

/** An answer to this question, whole. */
function requireAnswer(answer: Answer, name: string, host: string): void {
  const [question, ...more] = answer.questions ?? [];
  const isOurs =
    answer.type === 'response' &&
    more.length === 0 &&
    question?.type === 'CAA' &&
    sameName(question.name, name) &&
    ((answer.flags ?? 0) & TRUNCATED_RESPONSE) === 0;
  if (!isOurs) throw new DstackError('DNS_ANSWER', `what ${host} answers is not about ${name}`);
  if (answer.rcode === 'NOERROR' || answer.rcode === 'NXDOMAIN') return;
  throw new DstackError('DNS_REFUSED', `${host} says ${answer.rcode} of ${name}`);
}

/** Those of the name at the end of its aliases. @throws DNS_ANSWER when there is no end: an authority may follow more of them */
function recordsOf({ answers = [] }: Answer, name: string, host: string): CaaRecord[] {
  const aliasOf = (owner: string) =>
    answers.find((record) => record.type === 'CNAME' && sameName(record.name, owner));
  let owner = name;
  let followed = 0;
  for (let alias = aliasOf(owner); alias?.type === 'CNAME'; alias = aliasOf(owner)) {
    if (++followed > MAX_ALIASES)
      throw new DstackError('DNS_ANSWER', `${host} shows more than ${MAX_ALIASES} aliases of ${name}`);
    owner = alias.data;
  }
  return answers
    .filter((record): record is CaaAnswer => record.type === 'CAA' && sameName(record.name, owner))
    .map(({ data: { flags = 0, tag, value } }) => ({ flags, tag, value }));
}

const sameName = (a: string, b: string): boolean =>
  a.replace(/\.$/, '').toLowerCase() === b.replace(/\.$/, '').toLowerCase();
