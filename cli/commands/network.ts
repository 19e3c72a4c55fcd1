/** `network …`: the owner's commands. */
import { writeFileSync } from 'node:fs';
import { Type } from 'typebox';
import { parseCollateral } from '../../lib/attestation/collateral/collateral.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress } from '../../lib/protocol/hex.ts';
import { CONFIG_MAX_BYTES, configHash, type Flavour, flavours } from '../../lib/protocol/network-config.ts';
import {
  decodeOwner,
  decodePendingOwner,
  encodeBootstrap,
  encodeOwner,
  encodePendingOwner,
} from '../../lib/protocol/network-contract.ts';
import {
  type BootstrapPackage,
  BootstrapPackageSchema,
  MESSAGE_MAX_BYTES,
} from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { parseDuration, showDuration } from '../duration.ts';
import { flavourOf } from '../flavour.ts';
import { instant } from '../instant.ts';
import { act, type Deed, deployOptions, keyOf, openOwner, ownerOptions, settled } from '../owner/act.ts';
import {
  chainOptions,
  connectChain,
  connectNetwork,
  contractOption,
  type NetworkConnection,
  parseOwnersConfig,
  readGiven,
  requireAddress,
} from '../owner/connection.ts';
import { deployNetwork } from '../owner/deploy.ts';
import { readSiteFile } from '../site/site-file.ts';
import { verifyBootstrap } from '../verify-bootstrap.ts';
import { appRow, list, listedApp } from './network-list.ts';
import { networkOwnerCommands, pendingDelay } from './network-owner.ts';
import { allow, revoke } from './network-policy.ts';
import { networkPublish } from './network-publish.ts';
import { networkSourceCommands, writeSource } from './network-source.ts';
import { tcb, tcbStatus } from './network-tcb.ts';
import { networkWatch } from './network-watch.ts';

const deploy: Command = {
  name: 'network deploy',
  summary: "deploys a new network's contract; prints its address",
  options: {
    ...deployOptions,
    owner: {
      value: 'ADDRESS',
      help: 'the owner, if it is another account than the one that deploys (a multisig)',
    },
    delay: {
      value: 'DURATION',
      help: 'how long changes that loosen the rules take, such as 2d, 12h or 90s; 0 is allowed',
      default: '2d',
    },
    'request-window': { value: 'BLOCKS', help: 'how long a request stays open', default: '256' },
    source: {
      value: 'FILE',
      help: 'writes the source there, as block explorers verify it (standard JSON input)',
    },
  },
  async run(args) {
    const wanted = {
      delay: parseDuration('--delay', args.text('delay'), LONGEST_DELAY, 'seconds'),
      requestWindow: wholeNumber(args, 'request-window', 0xffff_ffff),
    };
    const given = ownerAddress(args);
    const key = await keyOf(args);
    const owner = given ?? key?.address;
    if (owner === undefined) throw new UsageError('--dry-run without a key needs --owner');
    const connection = await connectChain(args);
    if (key !== undefined) await settled(connection, key.address);
    // A file that cannot be written is found out before there is a contract.
    const source = args.optional('source');
    if (source !== undefined && key !== undefined) writeSource(args, source);
    await deployNetwork(args, connection, key ?? owner, { owner, ...wanted });
  },
};

/** What fits the contract's field; the contract itself refuses more than a year. */
const LONGEST_DELAY = 0xffff_ffff;

/** The account that is to own the network. @throws USAGE */
function ownerAddress(args: Arguments): Address | undefined {
  const text = args.optional('owner');
  return text === undefined ? undefined : requireAddress('owner', text);
}

const config: Command = {
  name: 'network config',
  summary: 'writes a network.json and prints its hash, which the contract must allow',
  options: {
    contract: {
      value: 'ADDRESS',
      help: "the network's contract, as network deploy printed it",
      env: 'DSTACK_CONTRACT',
      required: true,
    },
    'chain-id': { value: 'NUMBER', help: "the chain's id", env: 'DSTACK_CHAIN_ID', required: true },
    endpoint: {
      value: 'URL',
      help: 'an RPC endpoint as the VMs reach it; give several',
      multiple: true,
      required: true,
    },
    quorum: { value: 'NUMBER', help: 'how many endpoints must agree; more than half of them' },
    depth: { value: 'BLOCKS', help: "confirmations; without it, nodes go by the chain's finalized block" },
    'minimum-nodes': { value: 'NUMBER', help: 'nodes before production apps start', default: '2' },
    'superseded-grace': {
      value: 'DURATION',
      help: 'how long nodes still run a version that was replaced and whose successor does not come up; a day when left out',
    },
    site: {
      value: 'FILE',
      help: "the website's names and who certifies them, JSON as in docs/site-certificates.md; without it, self-signed",
    },
    'raw-quotes': {
      value: 'APP',
      help: 'the one app that gets quotes over any report data: docs/agent.md says what they cost the others',
    },
    'store-quota': {
      value: 'MIB',
      help: 'nodes have a store for apps, which may take as much of the data disk; without it they have none: docs/kv.md',
    },
    'store-share': {
      value: '[APP=]MIB',
      help: 'what an app may keep there, or the one of that name; give several. An eighth of --store-quota when left out',
      multiple: true,
    },
    'store-public': {
      value: 'APP[=PREFIX]',
      help: "keys of this app that everyone may read in the store's ledger: those that begin with PREFIX, or all; give several",
      multiple: true,
    },
    'store-owner': {
      value: 'APP',
      help: 'the one app that maintains the store, and can read what all others keep there: docs/kv.md#the-owner',
    },
    'store-clients': {
      value: 'FILE',
      help: 'whose part of it clients outside may use, at which name and by which certificates, JSON as in docs/kv.md#from-outside',
    },
    out: { value: 'FILE', help: 'where to write it', default: 'network.json' },
    ...narrationOptions,
  },
  async run(args) {
    const endpoints = args.list('endpoint');
    requireAddress('contract', args.text('contract'));
    const value = {
      version: 1,
      chainId: wholeNumber(args, 'chain-id'),
      contract: args.text('contract'),
      confirmation:
        args.optional('depth') === undefined ? { finalized: true } : { depth: wholeNumber(args, 'depth') },
      endpoints,
      quorum:
        args.optional('quorum') === undefined
          ? Math.floor(endpoints.length / 2) + 1
          : wholeNumber(args, 'quorum'),
      minimumNodes: wholeNumber(args, 'minimum-nodes'),
      ...(args.optional('superseded-grace') !== undefined && {
        supersededGrace: parseDuration(
          '--superseded-grace',
          args.text('superseded-grace'),
          0xffff_ffff,
          'seconds',
        ),
      }),
      ...(args.optional('raw-quotes') !== undefined && { rawQuotes: args.text('raw-quotes') }),
      ...storeIn(args),
      ...(args.optional('site') !== undefined && { site: siteIn(args.text('site')) }),
    };
    const bytes = utf8(`${JSON.stringify(value, null, 2)}\n`);
    // Whether plain http is allowed is for the image that boots with it to say; everything else is checked here.
    parseOwnersConfig(bytes, args.text('out'));
    writeFileSync(args.text('out'), bytes);
    const [hash, file] = [to0x(configHash(bytes)), args.text('out')];
    narration(args)(`config ${hash} (${file})`);
    answer(args, 'network config', { config: hash, file });
  },
};

/** @throws USAGE */
function storeIn(args: Arguments) {
  const [shares, shown] = [args.list('store-share'), args.list('store-public')];
  const owner = args.optional('store-owner');
  const clients = args.optional('store-clients');
  if (args.optional('store-quota') === undefined) {
    if (shares.length + shown.length === 0 && owner === undefined && clients === undefined) return {};
    throw new UsageError('there is no store without --store-quota: say how much of the disk it may take');
  }
  return {
    store: {
      quotaMiB: wholeNumber(args, 'store-quota'),
      ...storeShares(shares),
      ...(owner !== undefined && { owner }),
      ...(shown.length > 0 && { public: storePublic(shown) }),
      ...(clients !== undefined && { clients: clientsIn(clients) }),
    },
  };
}

/** What apps are called and prefixes may hold is for network.json's own rules. */
function storePublic(given: readonly string[]): Record<string, string[]> {
  const byApp = new Map<string, string[]>();
  for (const text of given) {
    const at = text.indexOf('=');
    const [app, prefix] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
    if (at >= 0 && prefix === '')
      throw new UsageError(`--store-public ${text} has no prefix: ${app} alone makes all of its keys public`);
    byApp.set(app, [...(byApp.get(app) ?? []), prefix]);
  }
  return Object.fromEntries(byApp);
}

/** @throws USAGE */
function storeShares(given: readonly string[]) {
  const shares: Record<string, number> = {};
  let shareMiB: number | undefined;
  for (const text of given) {
    const match = /^(?:([^=]+)=)?(\d{1,5})$/.exec(text);
    if (match === null) throw new UsageError(`--store-share takes MIB or APP=MIB, not ${text}`);
    const [, app, share] = match;
    if (app === undefined) shareMiB = Number(share);
    else shares[app] = Number(share);
  }
  return {
    ...(shareMiB !== undefined && { shareMiB }),
    ...(Object.keys(shares).length > 0 && { shares }),
  };
}

/** @throws STORE_CLIENTS for what is no JSON; all else is for network.json's own rules */
const clientsIn = (file: string): unknown =>
  typed(() =>
    parseJson(
      Type.Unknown(),
      readGiven('--store-clients', file).toString('utf8'),
      'STORE_CLIENTS',
      file,
      CONFIG_MAX_BYTES,
    ),
  );

const siteIn = (file: string): unknown => readSiteFile(readGiven('--site', file).toString('utf8'), file);

const bootstrap: Command = {
  name: 'network bootstrap',
  summary: "verifies the first node's bootstrap package and posts it",
  positionals: ['FILE'],
  options: {
    ...ownerOptions,
    flavour: {
      value: 'NAME',
      help: 'the flavour of the image that made it: production, sim or dev',
      default: 'production',
    },
    collateral: {
      value: 'FILE',
      help: 'a collateral.json to judge the quote by, instead of the collateral in the package',
    },
    'check-only': { help: 'verify, and sign nothing; needs no key' },
  },
  async run(args) {
    // Standard output is for the one object of --json.
    const say = narration(args);
    const message = bootstrapPackage(args);
    const checkOnly = args.flag('check-only');
    const owner = checkOnly ? undefined : await openOwner(args);
    const network = owner ?? (await connectNetwork(args));
    if (await isPosted(message, network)) {
      say(
        `this package is posted already: the network's key is ${message.networkKey}, epoch ${message.epoch}`,
      );
      return;
    }
    const verdict = await verdictOn(message, network, flavourOf(args));
    for (const step of verdict.steps) say(`ok  ${step.name}: ${step.detail}`);
    if (flavourOf(args) !== 'production')
      say('NOT PRODUCTION: anyone can forge a quote of the simulated platform');
    if (owner === undefined) return;
    await act(args, owner, bootstrapDeed(message, owner));
    say(`the network's key is ${message.networkKey}, epoch ${message.epoch}`);
  },
};

/** Whether the network's key is that of the package, in its epoch: posting it again would be refused. */
async function isPosted(
  message: BootstrapPackage,
  { reader, chainId, contract }: NetworkConnection,
): Promise<boolean> {
  const { epoch, networkKey } = await reader.network();
  const isOfThis = message.chainId === chainId && sameAddress(message.contract, contract);
  return isOfThis && epoch === message.epoch && sameAddress(networkKey, message.networkKey);
}

/** A refusal as a production image's says so when the package is that of another flavour. @throws the codes of verifyBootstrap */
async function verdictOn(message: BootstrapPackage, network: NetworkConnection, flavour: Flavour) {
  const verdict = (as: Flavour) => verifyBootstrap(message, network, as, network.reader);
  try {
    return await verdict(flavour);
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    for (const other of flavours.filter((one) => one !== flavour)) {
      if (
        !(await verdict(other).then(
          () => true,
          () => false,
        ))
      )
        continue;
      throw new DstackError(
        cause.code,
        `${cause.message}; this package is of an image of flavour ${other}, and was judged as ${flavour}: --flavour ${other}, if that is what you mean`,
        { cause },
      );
    }
    throw cause;
  }
}

function bootstrapPackage(args: Arguments): BootstrapPackage {
  const text = readGiven('the bootstrap package', args.positionals[0]!).toString('utf8');
  const what = 'the bootstrap package';
  const given = parseJson(BootstrapPackageSchema, text, 'BOOTSTRAP_MALFORMED', what, MESSAGE_MAX_BYTES);
  const collateral = args.optional('collateral');
  if (collateral === undefined) return given;
  return { ...given, collateral: parseCollateral(readGiven('--collateral', collateral).toString('utf8')) };
}

function bootstrapDeed(message: BootstrapPackage, { reader }: NetworkConnection): Deed {
  const { signature, networkKey, epoch, blockNumber } = message;
  return {
    data: encodeBootstrap({
      networkKey,
      measurement: message.measurement,
      config: message.config,
      platform: message.platform,
      quoteHash: message.quoteHash,
      blockNumber: BigInt(blockNumber),
      blockHash: message.blockHash,
      r: signature.r,
      vs: signature.vs,
    }),
    effect: [`the node behind this quote becomes the network's first, in epoch ${epoch}, at once`],
    async proof(at) {
      const shown = await reader.network(at);
      const isSo = shown.epoch === epoch && sameAddress(shown.networkKey, networkKey);
      return isSo ? { done: [] } : { instead: `network key ${shown.networkKey} in epoch ${shown.epoch}` };
    },
  };
}

const status: Command = {
  name: 'network status',
  summary: "prints the network's state, its TCB policy and its apps",
  options: { ...chainOptions, contract: contractOption, ...narrationOptions },
  async run(args) {
    const connection = await connectNetwork(args);
    const { contract, chain, reader, call, isOurCode, sources } = connection;
    const head = await chain.head();
    const network = await reader.network(head);
    const owner = decodeOwner(await call(encodeOwner(), head));
    const next = decodePendingOwner(await call(encodePendingOwner(), head));
    const nextOwner = BigInt(next) === 0n ? null : next;
    const nextDelay = await pendingDelay(connection, head);
    const apps = (await reader.apps(head)).map(listedApp);
    const rows = {
      contract,
      code: isOurCode ? 'of this release' : "OTHER THAN THIS RELEASE'S",
      owner,
      ...(nextOwner !== null && { 'next owner': `${nextOwner}, once that account accepts` }),
      'network key': network.epoch === 0 ? 'none: not bootstrapped' : network.networkKey,
      epoch: network.epoch,
      onboarded: network.onboarded
        ? 'yes'
        : network.epoch === 0
          ? 'NO: NOBODY HAS THE SECRET YET'
          : 'NO: AT MOST ONE NODE HAS THE SECRET',
      delay: `${showDuration(network.delay)}${nextDelay === undefined ? '' : `; ${showDuration(nextDelay.delay)} from ${instant(nextDelay.from)}`}`,
      'request window': `${network.requestWindow} blocks`,
      platforms: network.platformsOpen ? 'OPEN: any that is not revoked' : 'listed ones only',
    };
    narration(args)(
      ...Object.entries(rows).map(([name, value]) => `${name.padEnd(16)} ${value}`),
      ...(await tcbStatus(connection, head)),
      ...apps.map(appRow),
      `as of block ${head.number}, by ${sources}; what may join: network list`,
    );
    if (!args.flag('json')) return;
    const { epoch, networkKey, onboarded, delay, requestWindow, platformsOpen } = network;
    printJson(
      {
        chainId: connection.chainId,
        contract,
        isOurCode,
        owner,
        nextOwner,
        networkKey: epoch === 0 ? null : networkKey,
        epoch,
        onboarded,
        delay,
        nextDelay: nextDelay === undefined ? null : { delay: nextDelay.delay, from: Number(nextDelay.from) },
        requestWindow,
        platformsOpen,
        apps,
        block: head.number,
      },
      2,
    );
  },
};

function wholeNumber(args: Arguments, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  const text = args.text(name);
  if (!/^[0-9]{1,15}$/.test(text) || Number(text) > most) {
    const bound = most === Number.MAX_SAFE_INTEGER ? '' : `${most} at most, `;
    throw new UsageError(`--${name} takes a whole number, ${bound}not ${text}`);
  }
  return Number(text);
}

export const networkCommands: readonly Command[] = [
  deploy,
  config,
  bootstrap,
  allow,
  revoke,
  tcb,
  ...networkOwnerCommands,
  status,
  list,
  networkWatch,
  networkPublish,
  ...networkSourceCommands,
];
