/**
 * What left no onboarding: registrations that nobody answered, answers that the network's key signed and that are not on chain, and
 * onboardings of which the history says nothing.
 */
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import type { EvidenceFound } from './evidence-found.ts';
import type { Findings } from './findings.ts';
import type { AuditedHead } from './head.ts';
import type { Past } from './past.ts';
import type { Request } from './replay.ts';
import type { RequestStanding, Unanswered, Unposted } from './report.ts';
import { bare, bytesOf } from './words.ts';

export interface LooseEndsOptions {
  readonly past: Past;
  readonly evidence: EvidenceFound;
  readonly reader: NetworkReader;
  readonly head: AuditedHead;
  /** How long a request stays open, blocks. */
  readonly requestWindow: number;
}

/** How far back a contract can read block hashes: a request over an older block can no longer be registered. Blocks. */
const BLOCK_HASHES = 256;
/** How many requests that only records know of are looked up in the contract. */
const MOST_LOOKED_UP = 5_000;

export class LooseEnds {
  readonly #of: LooseEndsOptions;
  readonly #findings: Findings;

  constructor(of: LooseEndsOptions, findings: Findings) {
    this.#of = of;
    this.#findings = findings;
  }

  /** Requests that the contract shows as answered although no event says so: how many of those that are known there are. */
  async lookForHiddenOnboardings(): Promise<number> {
    const { evidence, reader, head, past } = this.#of;
    const { requests } = past.replay;
    const own = [...requests.keys()].map(bare);
    const others = [...evidence.strangers.keys()];
    if (others.length > MOST_LOOKED_UP) {
      const message = `there are records of ${others.length} requests that are not in the history: ${MOST_LOOKED_UP} of them were looked up`;
      this.#findings.add('gap', 'RECORDS_TOO_MANY', 'records', message);
    }
    const lookedUp = [...own, ...others.slice(0, MOST_LOOKED_UP)].filter(
      (hash) => requests.get(`0x${hash}`)?.answered !== true,
    );
    const views = await reader.requests(lookedUp.map(bytesOf), head);
    const hidden = lookedUp.filter((_, at) => views[at]!.state === 'answered');
    const message = 'the contract shows it as answered, and no event says so: the endpoints hide one';
    for (const hash of hidden) this.#findings.add('failure', 'HIDDEN_ONBOARDING', `request ${hash}`, message);
    return hidden.length;
  }

  /** Anyone can register; a request that nobody answered was refused, or nobody could answer it. */
  unanswered(): Unanswered[] {
    const all: Unanswered[] = [];
    for (const [hash, request] of this.#of.past.replay.requests) {
      if (request.answered) continue;
      const { node, epoch, block, time } = request;
      all.push({ requestHash: bare(hash), node, epoch, block, time, standing: this.#standingOf(request) });
    }
    if (all.length === 0) return all;
    const open = all.filter(({ standing }) => standing === 'open').length;
    const message = `${all.length} registrations were not answered, ${open} of them still can be`;
    this.#findings.add('warning', 'REGISTRATIONS_UNANSWERED', 'today', message);
    return all;
  }

  /**
   * Answers that the network's key signed and that are not on chain. A node gives out the sealed secret only once the contract has the
   * answer. If the sealed bytes are found in a record, they did get out; if not, they got out only if the node that signed broke
   * that rule.
   */
  unposted(): Unposted[] {
    const { evidence, head, past, requestWindow } = this.#of;
    return evidence.signedAnswers.map((signed) => {
      const request = past.replay.requests.get(`0x${signed.requestHash}`);
      const made = evidence.strangers.get(signed.requestHash) ?? Number.POSITIVE_INFINITY;
      const over = request === undefined ? made : request.block + requestWindow;
      const standing = this.#standingOf(request);
      const final = standing !== 'open' && head.number > over + BLOCK_HASHES;
      const unposted = { ...signed, standing, final, sealedFound: evidence.hasSealed(signed) };
      this.#judgeUnposted(unposted);
      return unposted;
    });
  }

  #judgeUnposted({ requestHash, node, standing, final, sealedFound }: Unposted): void {
    const where = `request ${requestHash}`;
    const what = `the network's key signed an answer to ${node} that is not on chain (the request reads ${standing})`;
    if (final && sealedFound) {
      const message = `${what} and can no longer get there, and a record has the sealed secret: whoever has the request's key could open it, without a trace on chain`;
      this.#findings.add('failure', 'SECRET_WITHOUT_TRACE', where, message);
    } else if (final && standing === 'none') {
      const message = `${what}: a node answered a request that was never made on chain, which no node built from this source does`;
      this.#findings.add('failure', 'ANSWER_WITHOUT_REQUEST', where, message);
    } else {
      const message = `${what}${final ? '' : ' yet'}: nobody got the secret by it if the node that signed gives out the sealed bytes only once they are recorded`;
      this.#findings.add('warning', 'ANSWER_NOT_POSTED', where, message);
    }
  }

  #standingOf(request: Request | undefined): RequestStanding {
    if (request === undefined) return 'none';
    if (request.answered) return 'answered';
    const { head, requestWindow, past } = this.#of;
    const isOver = head.number > request.block + requestWindow;
    return isOver || request.epoch !== past.replay.epoch ? 'expired' : 'open';
  }
}
