/** `signer …`: a validator's remote signer, for whoever runs one: its configuration, its keys, what it signed, and the signer itself outside of a VM. */
import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseConfig } from '../../guest/signer/config.ts';
import { networkSeed } from '../../guest/signer/keys.ts';
import { importKey, importState, publicKeyOf, showState } from '../../guest/signer/operator.ts';
import { configTemplate } from '../../guest/signer/template.ts';
import { PROTOCOL_VERSIONS } from '../../lib/cometbft/consensus.ts';
import {
  addressOf,
  bech32Address,
  bech32PublicKey,
  cometJson,
  ed25519Key,
} from '../../lib/cometbft/ed25519.ts';
import { seedOf, stateOf } from '../../lib/cometbft/key-files.ts';
import type { SignState } from '../../lib/cometbft/sign-state.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { answer } from '../answers.ts';
import {
  type Arguments,
  type Command,
  narrationOptions,
  type Option,
  typed,
  UsageError,
} from '../command.ts';
import { shownState, signerBackupCommands } from '../signer/backup.ts';
import { atDesk, deskOptions, readText, secretIn } from '../signer/desk.ts';
import { startCommand, statusCommand } from '../signer/run.ts';

const DISPLAYS = ['json', 'hex', 'base64', 'bech32', 'address'] as const;
const displayOptions: Record<string, Option> = {
  'pubkey-display': {
    value: 'FORM',
    short: 'p',
    help: `how the key is shown: ${DISPLAYS.join(', ')}`,
    default: 'json',
  },
  'bech32-prefix': {
    value: 'PREFIX',
    short: 'b',
    help: 'for bech32: …valconspub, or …valcons for the address',
  },
};

const init: Command = {
  name: 'signer init',
  summary: 'writes a configuration with comments, and shows the key where --secret is given',
  options: {
    config: { value: 'FILE', short: 'c', help: 'where to write it', default: 'signer.toml' },
    secret: { value: 'FILE', help: 'the secret of a signer outside of a VM, made if it is not there' },
    'chain-id': { value: 'ID', help: 'the chain', default: 'testchain-1' },
    'protocol-version': { value: 'VERSION', help: PROTOCOL_VERSIONS.join(', '), default: 'v0.38' },
    address: { value: 'ADDRESS', help: "the node's priv_validator_laddr", default: 'tcp://127.0.0.1:26659' },
    endpoint: { value: 'URL', help: 'a member of the store', default: 'http://127.0.0.1:2379' },
    ...displayOptions,
    json: narrationOptions.json,
  },
  run(args) {
    const file = args.text('config');
    if (existsSync(file)) throw new UsageError(`${file} is there already, and is kept`);
    const display = displayOf(args);
    const prefix = args.optional('bech32-prefix') ?? 'cosmosvalconspub';
    const text = configTemplate({
      chainId: args.text('chain-id'),
      protocol: args.text('protocol-version'),
      address: args.text('address'),
      endpoint: args.text('endpoint'),
      prefix,
    });
    const { chains } = typed(() => parseConfig(text));
    // Whatever may fail comes before anything is written.
    statSync(dirname(file));
    const secretFile = args.optional('secret');
    const secret = secretFile === undefined ? undefined : secretIn(secretFile);
    writeDurably(file, text, 0o600);
    printError(`${file} is written; its comments say what to set`);
    const chain = chains[0]!.id;
    const publicKey = secret === undefined ? undefined : ed25519Key(networkSeed(secret, chain)).publicKey;
    if (publicKey !== undefined && !args.flag('json')) print(shown(publicKey, display, prefix));
    answer(args, 'signer init', {
      config: file,
      chain,
      publicKey: publicKey === undefined ? null : cometJson(publicKey),
    });
    return Promise.resolve();
  },
};

const pubkey: Command = {
  name: 'signer pubkey',
  summary: "shows a chain's public key",
  options: { ...deskOptions, ...displayOptions, json: narrationOptions.json },
  async run(args) {
    const display = displayOf(args);
    await atDesk(args, async (desk, chain) => {
      const prefix = args.optional('bech32-prefix') ?? chain.bech32Prefix;
      const publicKey = await publicKeyOf(desk, chain);
      if (!args.flag('json')) print(typed(() => shown(publicKey, display, prefix)));
      answer(args, 'signer pubkey', { chain: chain.id, publicKey: cometJson(publicKey) });
    });
  },
};

const importCommand: Command = {
  name: 'signer import',
  summary: 'seals a key to the network: priv_validator_key.json, or the key of tmkms softsign',
  positionals: ['KEY_FILE'],
  options: {
    ...deskOptions,
    state: { value: 'FILE', help: 'what it signed last: priv_validator_state.json' },
    fresh: { help: 'it never signed anything' },
    json: narrationOptions.json,
  },
  async run(args) {
    const [file] = args.positionals as [string];
    const text = readText(file);
    const seed = typed(() => seedOf(text));
    const state = stateFrom(args, args.optional('state'));
    const publicKey = cometJson(ed25519Key(seed).publicKey);
    await atDesk(args, async (desk, chain) => {
      await importKey(desk, chain, seed, state);
      if (!args.flag('json')) printJson(publicKey);
      answer(args, 'signer import', { chain: chain.id, publicKey });
    });
    printError('the key is in the store now. Remove it from where it was: a key in two places signs twice');
  },
};

const stateShow: Command = {
  name: 'signer state show',
  summary: "shows what a chain's key signed last, as the store has it",
  options: { ...deskOptions, json: { help: 'the same, within one JSON object that names the chain' } },
  async run(args) {
    await atDesk(args, async (desk, chain) => {
      const state = shownState(await showState(desk, chain));
      if (!args.flag('json')) printJson(state);
      answer(args, 'signer state show', { chain: chain.id, state });
    });
  },
};

const stateImport: Command = {
  name: 'signer state import',
  summary: "makes the record of a chain's key say what was signed elsewhere; it only goes forward",
  options: {
    ...deskOptions,
    state: { value: 'FILE', help: "priv_validator_state.json, or tmkms' state file" },
    fresh: { help: 'the key never signed anything' },
    json: narrationOptions.json,
  },
  async run(args) {
    const state = stateFrom(args, args.optional('state'));
    await atDesk(args, async (desk, chain) => {
      await importState(desk, chain, state);
      answer(args, 'signer state import', {
        chain: chain.id,
        state: state === 'fresh' ? null : shownState(state),
      });
    });
    printError('the record is in the store');
  },
};

/** @throws USAGE unless one of both is given */
function stateFrom(args: Arguments, file: string | undefined): SignState | 'fresh' {
  if (args.flag('fresh') === (file !== undefined)) {
    throw new UsageError(
      '--state names what the key signed last; --fresh says that it never signed anything',
    );
  }
  return file === undefined ? 'fresh' : typed(() => stateOf(readText(file)));
}

function displayOf(args: Arguments): (typeof DISPLAYS)[number] {
  const wanted = args.text('pubkey-display');
  const display = DISPLAYS.find((one) => one === wanted);
  if (display === undefined)
    throw new UsageError(`--pubkey-display takes ${DISPLAYS.join(', ')}, not ${wanted}`);
  return display;
}

function shown(publicKey: Uint8Array, display: (typeof DISPLAYS)[number], prefix: string): string {
  switch (display) {
    case 'json':
      return JSON.stringify(cometJson(publicKey));
    case 'hex':
      return addressOf(publicKey);
    case 'base64':
      return Buffer.from(publicKey).toString('base64');
    case 'bech32':
      return bech32PublicKey(publicKey, prefix);
    case 'address':
      return bech32Address(publicKey, prefix.replace(/pub$/, ''));
  }
}

export const signerCommands: readonly Command[] = [
  init,
  startCommand,
  pubkey,
  importCommand,
  ...signerBackupCommands,
  stateShow,
  stateImport,
  statusCommand,
];
