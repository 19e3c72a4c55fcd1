/**
 * The client of the guest's port: the relay asks, its node answers. The guest never dials the host.
 *
 * The guest is trusted by its network, not by this process: what it says is bounded and checked like anything else.
 */
import type { Static, TSchema } from 'typebox';
import type { PlatformKind } from '../lib/attestation/quote/platform-kind.ts';
import { type Enclave, NotYet } from '../lib/framework/handler.ts';
import { type SealingKeyMessage, SealingKeyMessageSchema } from '../lib/protocol/app-secrets.ts';
import { APPS_STATUS_MAX_BYTES, type AppsStatus, AppsStatusSchema } from '../lib/protocol/app-status.ts';
import { type CollateralMessage, PlatformKindSchema } from '../lib/protocol/collateral.ts';
import { DstackError, hasCode, Retryable } from '../lib/protocol/errors.ts';
import {
  type BootstrapPackage,
  BootstrapPackageSchema,
  ErrorReplySchema,
  MESSAGE_MAX_BYTES,
  type NodeStatus,
  NodeStatusSchema,
  nodePaths,
  type RequestMessage,
  RequestMessageSchema,
  type SealedMessage,
} from '../lib/protocol/onboarding-messages.ts';
import { check, Strict } from '../lib/protocol/schema.ts';
import { type SignerStatus, SignerStatusSchema } from '../lib/protocol/signer-status.ts';
import { httpJson } from './http-json.ts';

/** Checking a quote and reading the chain by quorum takes a while. Milliseconds. */
const SLOW_TIMEOUT = 60_000;
const FAST_TIMEOUT = 10_000;

/**
 * Refusals of a node that may be temporary: it is busy or starting; or it sees an older state of the chain than this host,
 * because its confirmation rule is stricter; or the collateral that it was given was missing or not current, and this
 * host's sources may have other collateral later. Every other code is final.
 */
const passing = new Set([
  'INTERNAL',
  'BUSY',
  'NOT_READY',
  'NODE_STATE',
  'NETWORK_NOT_BOOTSTRAPPED',
  'REQUEST_EPOCH',
  'REQUEST_BLOCK',
  'MEASUREMENT_NOT_ALLOWED',
  'CONFIG_NOT_ALLOWED',
  'PLATFORM_NOT_ALLOWED',
  'FMSPC_NOT_ALLOWED',
  'TCB_STATUS_NOT_ACCEPTED',
  'TCB_EVALUATION_NUMBER',
  'COLLATERAL_MISSING',
]);
/** What this host saw on chain is not yet confirmed by the node's rule, and soon will be: worth asking again at an even pace. */
const confirming = new Set(['REQUEST_NOT_OPEN', 'ANSWER_NOT_ON_CHAIN']);
const passes = (code: string): boolean =>
  passing.has(code) ||
  /^(CHAIN|RPC|SOCKET)_/.test(code) ||
  /^(TCB_INFO|QE_IDENTITY|ROOT_CRL|PCK_CRL)_(NOT_YET|EXPIRED)$/.test(code);

export class NodeClient implements Enclave {
  readonly #url: string;

  /** @param url of the node port as this host reaches it, `http://127.0.0.1:7600` */
  constructor(url: string) {
    this.#url = url.replace(/\/$/, '');
  }

  /** @throws Retryable NODE_UNREACHABLE; a refusal keeps the node's own code and is Retryable when it may pass */
  async request(path: string, body?: unknown): Promise<unknown> {
    const slow = ![nodePaths.status, nodePaths.bootstrap, nodePaths.apps, nodePaths.signer].some(
      (fast) => fast === path,
    );
    let reply: { status: number; value: unknown };
    try {
      reply = await httpJson({
        url: this.#url + path,
        timeout: slow ? SLOW_TIMEOUT : FAST_TIMEOUT,
        maxBytes: path === nodePaths.apps ? APPS_STATUS_MAX_BYTES : MESSAGE_MAX_BYTES,
        ...(body === undefined ? {} : { body }),
      });
    } catch (cause) {
      throw new Retryable(
        'NODE_UNREACHABLE',
        `the node did not answer ${path}: ${(cause as Error).message}`,
        { cause },
      );
    }
    if (reply.status === 200) return reply.value;
    const { code, message } = check(
      ErrorReplySchema,
      reply.value,
      'NODE_REPLY',
      `the node's refusal of ${path}`,
    );
    const text = `the node refuses ${path}: ${message}`;
    if (confirming.has(code)) throw new NotYet(code, text);
    throw passes(code) || reply.status >= 500 ? new Retryable(code, text) : new DstackError(code, text);
  }

  status(): Promise<NodeStatus> {
    return this.#checked(NodeStatusSchema, nodePaths.status);
  }

  /** The node's open request, or a new one. */
  newRequest(): Promise<RequestMessage> {
    return this.#checked(RequestMessageSchema, nodePaths.request, {});
  }

  /** Hands the node the secret that was sealed to its own request. */
  answer(message: SealedMessage): Promise<NodeStatus> {
    return this.#checked(NodeStatusSchema, nodePaths.answer, message);
  }

  /** How its apps stand. Texts in it may be an app's own. */
  apps(): Promise<AppsStatus> {
    return this.#checked(AppsStatusSchema, nodePaths.apps);
  }

  /** How its signer stands; undefined where there is none. Texts in it may be a validator's. */
  async signer(): Promise<SignerStatus | undefined> {
    try {
      return await this.#checked(SignerStatusSchema, nodePaths.signer);
    } catch (error) {
      if (hasCode(error, 'SIGNER_AWAY')) return undefined;
      throw error;
    }
  }

  /** What secrets of an app are sealed to. Who seals checks the network key's signature. */
  sealingKey(app: string): Promise<SealingKeyMessage> {
    return this.#checked(SealingKeyMessageSchema, nodePaths.sealingKey, { app });
  }

  bootstrapPackage(): Promise<BootstrapPackage> {
    return this.#checked(BootstrapPackageSchema, nodePaths.bootstrap);
  }

  /** Which collateral the evidence of the node's website is judged by. */
  platformKind(): Promise<PlatformKind> {
    return this.#checked(PlatformKindSchema, nodePaths.collateral);
  }

  async giveCollateral(collateral: CollateralMessage): Promise<void> {
    await this.#checked(Strict({}), nodePaths.collateral, collateral);
  }

  async #checked<T extends TSchema>(schema: T, path: string, body?: unknown): Promise<Static<T>> {
    const value = await this.request(path, body);
    return check(schema, value, 'NODE_REPLY', `the node's reply to ${path}`);
  }
}
