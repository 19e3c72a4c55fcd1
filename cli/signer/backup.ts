/** `signer backup | wrap | recover`: a key outside of the network, encrypted to a key of the operator's or wrapped by a cloud's key service. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { awsKms } from '../../guest/signer/aws-kms.ts';
import { encryptBackup, type KeyService, openBackup, wrapBackup } from '../../guest/signer/backup.ts';
import { makeBackup, recover } from '../../guest/signer/operator.ts';
import { cometJson, ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { at, encodeState, type SignState } from '../../lib/cometbft/sign-state.ts';
import { encrypterTo } from '../../lib/daemon/age.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { printError, printJson } from '../../lib/daemon/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { answer } from '../answers.ts';
import {
  type Arguments,
  type Command,
  narrationOptions,
  type Option,
  typed,
  UsageError,
} from '../command.ts';
import { atDesk, configFrom, deskOptions, readBytes, readText } from './desk.ts';

const kmsOptions: Record<string, Option> = {
  'kms-key': {
    value: 'ARN',
    help: 'the key of AWS KMS; credentials as AWS_ACCESS_KEY_ID and so on',
    env: 'DSTACK_SIGNER_KMS_KEY',
  },
  'kms-endpoint': { value: 'URL', help: "instead of the region's own", env: 'DSTACK_SIGNER_KMS_ENDPOINT' },
};

const backup: Command = {
  name: 'signer backup',
  summary:
    'writes key and state of a chain, encrypted to recipients of age, of the configuration or --recipient',
  options: {
    ...deskOptions,
    out: { value: 'FILE', help: 'where to write it', required: true },
    recipient: { value: 'RECIPIENT', help: 'age1…; may be given more than once', multiple: true },
    json: narrationOptions.json,
  },
  async run(args) {
    const out = newFile(args);
    const given = args.list('recipient');
    const recipients = given.length > 0 ? given : configFrom(args).recipients;
    typed(() => encrypterTo(recipients));
    await atDesk(args, async (desk, chain) => {
      const made = await makeBackup(desk, chain);
      writeDurably(out, await encryptBackup(made, recipients), 0o600);
      printError(`${out} holds the key of ${chain.id} and its state at ${at(made.state)}`);
      answer(args, 'signer backup', { chain: chain.id, file: out, state: shownState(made.state) });
    });
  },
};

const wrap: Command = {
  name: 'signer wrap',
  summary: "writes key and state of a chain, wrapped by a cloud's key service",
  options: {
    ...deskOptions,
    out: { value: 'FILE', help: 'where to write it', required: true },
    ...kmsOptions,
    json: narrationOptions.json,
  },
  async run(args) {
    const out = newFile(args);
    const service = serviceFrom(args);
    if (service === undefined) throw new UsageError('--kms-key is missing: the key that wraps');
    await atDesk(args, async (desk, chain) => {
      const made = await makeBackup(desk, chain);
      writeDurably(out, await wrapBackup(made, service), 0o600);
      printError(`${out} holds the key of ${chain.id} and its state at ${at(made.state)}`);
      answer(args, 'signer wrap', { chain: chain.id, file: out, state: shownState(made.state) });
    });
  },
};

const recoverCommand: Command = {
  name: 'signer recover',
  summary:
    "puts a chain's key and state back from a backup; refused where the store knows of later signatures",
  positionals: ['FILE'],
  options: {
    ...deskOptions,
    'recover-consensus-key': {
      short: 'r',
      help: "as tmkms-light wants it said; a backup holds the validator's key and no other",
    },
    identity: { value: 'FILE', help: 'the key of age that opens it (AGE-SECRET-KEY-1…)' },
    ...kmsOptions,
    json: narrationOptions.json,
  },
  async run(args) {
    const [file] = args.positionals as [string];
    const identityFile = args.optional('identity');
    const identity = identityFile === undefined ? undefined : identityIn(readText(identityFile));
    const opened = await openBackup(new Uint8Array(readBytes(file)), {
      identity,
      service: serviceFrom(args),
    }).catch(asTyped);
    const publicKey = cometJson(ed25519Key(opened.seed).publicKey);
    await atDesk(args, async (desk, chain) => {
      await recover(desk, chain, opened);
      if (!args.flag('json')) printJson(publicKey);
      answer(args, 'signer recover', { chain: chain.id, publicKey, state: shownState(opened.state) });
    });
    printError(`recovered, with its state at ${at(opened.state)}. If it signed since, import that state too`);
  },
};

/** As the store has it. */
export const shownState = (state: SignState): unknown => JSON.parse(encodeState(state));

/** Another file, or another key, than was meant; what a key service refuses is none of that. */
function asTyped(error: unknown): never {
  if (error instanceof DstackError && ['BACKUP_FILE', 'BACKUP_KEY'].includes(error.code))
    throw new UsageError(error.message, error.code);
  throw error;
}

/** Behind comments, as age-keygen writes it. */
function identityIn(text: string): string {
  const line = text.split('\n').find((one) => one.startsWith('AGE-SECRET-KEY-'));
  if (line === undefined) throw new UsageError('--identity: there is no AGE-SECRET-KEY-… in that file');
  return line.trim();
}

function newFile(args: Arguments): string {
  const out = args.text('out');
  if (existsSync(out)) throw new UsageError(`${out} is there already, and is kept`);
  // Before a key is taken out of the store.
  if (!existsSync(dirname(out))) throw new UsageError(`${dirname(out)}, the folder for --out, is not there`);
  return out;
}

function serviceFrom(args: Arguments): KeyService | undefined {
  const keyArn = args.optional('kms-key');
  if (keyArn === undefined) return undefined;
  const {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = process.env;
  if (!accessKeyId || !secretAccessKey) {
    throw new UsageError('AWS KMS needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment');
  }
  const endpoint = args.optional('kms-endpoint');
  return typed(() => awsKms({ keyArn, accessKeyId, secretAccessKey, sessionToken, endpoint }));
}

export const signerBackupCommands: readonly Command[] = [wrap, backup, recoverCommand];
