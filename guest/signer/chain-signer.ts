/** Answers what nodes of one chain ask, with one key: the same whichever connection a request came by. */
import {
  hasExtensions,
  isComplete,
  isNil,
  PRECOMMIT,
  PREVOTE,
  PROPOSAL,
  type Proposal,
  type ProtocolVersion,
  type Vote,
} from '../../lib/cometbft/consensus.ts';
import { addressOf, type Ed25519Key } from '../../lib/cometbft/ed25519.ts';
import type { Misfit, Reply, Request } from '../../lib/cometbft/messages.ts';
import {
  extensionSignBytes,
  hasConsensusForm,
  proposalSignBytes,
  rawSignBytes,
  voteSignBytes,
} from '../../lib/cometbft/sign-bytes.ts';
import { at, RECORDS, type SignState, STEP } from '../../lib/cometbft/sign-state.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { LastSigned } from './last-signed.ts';
import type { Metrics } from './metrics.ts';
import type { Records } from './records.ts';

/** A node waits 5 s for an answer, then it drops the connection. Milliseconds. */
const ANSWER_WITHIN = 3_000;
/** CometBFT's ERRORS_UNKNOWN: its own signer answers nothing else. */
const REFUSED = 0;

export interface ChainOptions {
  readonly id: string;
  readonly protocol: ProtocolVersion;
  /** Whether `SignBytes` of 1.x is answered: it signs what has no prefix. */
  readonly signsBytes: boolean;
  readonly key: Ed25519Key;
}

/** What a chain's signer lives on. */
export interface Surroundings {
  readonly records: Records;
  readonly metrics: Metrics;
  readonly log: Log<'info' | 'warn'>;
  /** Throws why nothing may be signed now, such as CHAIN_STALE. */
  readonly gate: () => void;
}

export class ChainSigner {
  readonly options: ChainOptions;
  readonly lastSigned: LastSigned;
  readonly #around: Surroundings;
  readonly #within: number;
  /** Requests of several connections are decided one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ChainOptions, around: Surroundings, within = ANSWER_WITHIN) {
    this.options = options;
    this.#around = around;
    this.#within = within;
    this.lastSigned = new LastSigned(around.records, recordKey(options.id, options.key.publicKey));
  }

  /** Never throws: what is not signed gets an answer that says why. */
  async answer(request: Request | Misfit, requestId: string): Promise<Reply> {
    const begun = performance.now();
    const { metrics, log } = this.#around;
    const chain = this.options.id;
    try {
      const reply = await this.#answer(request, requestId);
      metrics.observe(chain, request.kind, performance.now() - begun);
      return reply;
    } catch (error) {
      const description =
        error instanceof DstackError ? error.message : 'an error in the signer; its log has it';
      metrics.refused(chain, codeOf(error));
      log.warn({ requestId, chain, kind: request.kind, code: codeOf(error), err: error }, 'refused');
      // A ping has no answer but one, and cannot fail.
      const kind = request.kind === 'ping' ? 'pubKey' : request.kind;
      return { kind, error: { code: REFUSED, description: `${codeOf(error)}: ${description}` } };
    }
  }

  async #answer(request: Request | Misfit, requestId: string): Promise<Reply> {
    if ('problem' in request) throw request.problem;
    switch (request.kind) {
      case 'ping':
        return { kind: 'ping' };
      case 'pubKey':
        this.#requireChain(request.chainId);
        return { kind: 'pubKey', ed25519: this.options.key.publicKey };
      case 'vote':
        this.#requireChain(request.chainId);
        return { kind: 'vote', vote: await this.#signVote(request.vote, request.skipExtension, requestId) };
      case 'proposal':
        this.#requireChain(request.chainId);
        return { kind: 'proposal', proposal: await this.#signProposal(request.proposal, requestId) };
      case 'rawBytes':
        this.#requireChain(request.chainId);
        return { kind: 'rawBytes', signature: this.#signRaw(request.uniqueId, request.raw) };
      case 'bytes':
        return { kind: 'bytes', signature: this.#signBytes(request.value) };
    }
  }

  #requireChain(asked: string): void {
    if (asked === this.options.id) return;
    throw refusal(
      'WRONG_CHAIN',
      `this signer has a key for chain ${this.options.id} here, and was asked for ${JSON.stringify(asked.slice(0, 60))}`,
    );
  }

  async #signVote(vote: Vote, skipExtension: boolean, requestId: string): Promise<Vote> {
    if (vote.type !== PREVOTE && vote.type !== PRECOMMIT)
      throw refusal('VOTE_TYPE', `there is no vote of type ${vote.type}`);
    requirePlace(vote);
    if (!isNil(vote.blockId) && !isComplete(vote.blockId))
      throw refusal('BLOCK_ID', 'the block id is neither nil nor complete');
    const hasExtension = vote.type === PRECOMMIT && !isNil(vote.blockId);
    if (!hasExtension && vote.extension.length > 0) {
      throw refusal('VOTE_EXTENSION', 'only a precommit for a block may have an extension');
    }
    const { id, key, protocol } = this.options;
    const { signature, timestamp } = await this.#signOnce(
      {
        height: vote.height,
        round: vote.round,
        step: vote.type === PREVOTE ? STEP.prevote : STEP.precommit,
        signBytes: voteSignBytes(id, vote),
      },
      requestId,
    );
    // The app may have made another extension since, so it is signed each time; the node counts on it even where it is empty.
    const extends_ = hasExtension && hasExtensions(protocol) && !skipExtension;
    return {
      ...vote,
      timestamp: timestamp ?? vote.timestamp,
      signature,
      extensionSignature: extends_ ? key.sign(extensionSignBytes(id, vote)) : new Uint8Array(),
    };
  }

  async #signProposal(proposal: Proposal, requestId: string): Promise<Proposal> {
    if (proposal.type !== PROPOSAL)
      throw refusal('PROPOSAL_TYPE', `a proposal is not of type ${proposal.type}`);
    requirePlace(proposal);
    if (!isComplete(proposal.blockId))
      throw refusal('BLOCK_ID', 'a proposal is for a block, and its block id is not complete');
    if (proposal.polRound < -1 || proposal.polRound >= proposal.round) {
      throw refusal(
        'POL_ROUND',
        `round ${proposal.polRound} cannot be that of the lock in round ${proposal.round}`,
      );
    }
    const { height, round } = proposal;
    const { signature, timestamp } = await this.#signOnce(
      {
        height,
        round,
        step: STEP.propose,
        signBytes: proposalSignBytes(this.options.id, proposal),
      },
      requestId,
    );
    return { ...proposal, timestamp: timestamp ?? proposal.timestamp, signature };
  }

  #signRaw(uniqueId: string, raw: Uint8Array): Uint8Array {
    if (uniqueId === '' || raw.length === 0)
      throw refusal('RAW_BYTES', 'there is no unique id, or there are no raw bytes');
    this.#around.gate();
    return this.options.key.sign(rawSignBytes(this.options.id, uniqueId, raw));
  }

  #signBytes(value: Uint8Array): Uint8Array {
    if (!this.options.signsBytes) {
      throw refusal('SIGN_BYTES_OFF', 'plain bytes are not signed: sign_bytes is not set for this chain');
    }
    // It could be a vote, which would be signed beside the record.
    if (hasConsensusForm(value))
      throw refusal('SIGN_BYTES_FORM', 'these bytes have the form of a vote or a proposal');
    this.#around.gate();
    return this.options.key.sign(value);
  }

  /** Signs after the record in the store says so. */
  async #signOnce(asked: SignState, requestId: string) {
    const { key, id } = this.options;
    const before = this.#turn;
    const signal = AbortSignal.timeout(this.#within);
    const permitted = (async () => {
      await before.catch(() => {});
      if (signal.aborted)
        throw refusal('SIGNER_BUSY', 'earlier requests took all the time that there is for an answer');
      this.#around.gate();
      return this.lastSigned.permit(asked, signal);
    })();
    this.#turn = permitted;
    const { sign, timestamp, write } = await permitted;
    // The chain's clock, or what else it hangs on, may have gone on meanwhile.
    this.#around.gate();
    this.#around.metrics.signed(id, asked);
    this.#around.log.info({ requestId, chain: id, ...inLog(asked), again: write === undefined }, 'signed');
    return { signature: key.sign(sign), timestamp };
  }
}

function inLog({ height, round, step }: SignState): object {
  return { height: height.toString(), round, step };
}

function requirePlace(message: { readonly height: bigint; readonly round: number }): void {
  if (message.height >= 1n && message.round >= 0) return;
  throw refusal('HEIGHT', `there is no ${at({ ...message, step: 0, signBytes: new Uint8Array() })}`);
}

function refusal(code: string, message: string): DstackError {
  return new DstackError(code, message);
}

/** Where the record of a key is in the store. */
export function recordKey(chainId: string, publicKey: Uint8Array): string {
  return `${RECORDS}${chainId}/${toHex(publicKey)}`;
}

/** For the status. */
export function describeKey({ publicKey }: Ed25519Key): {
  readonly publicKey: string;
  readonly address: string;
} {
  return { publicKey: Buffer.from(publicKey).toString('base64'), address: addressOf(publicKey) };
}
