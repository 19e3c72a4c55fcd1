/** `network abi` and `network source`: what block explorers and other tools want of the contract. */
import { networkCompiler, networkJsonAbi } from '../../contracts/bindings.ts';
import { standardJsonInput } from '../../contracts/compile.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { type Arguments, type Command, narration } from '../command.ts';

const abi: Command = {
  name: 'network abi',
  summary: "prints the contract's ABI as JSON",
  options: {},
  async run() {
    printJson(networkJsonAbi, 2);
  },
};

const source: Command = {
  name: 'network source',
  summary:
    "prints the contract's source as solc's standard JSON input, by which block explorers verify a network",
  options: { out: { value: 'FILE', help: 'where to write it; printed by default' } },
  async run(args) {
    const out = args.optional('out');
    if (out !== undefined) writeSource(args, out);
    else print(...standardJsonInput().trimEnd().split('\n'));
  },
};

/** Says besides what a block explorer asks for. */
export function writeSource(args: Arguments, file: string): void {
  writeDurably(file, utf8(standardJsonInput()));
  narration(args)(
    `source ${file}: standard JSON input, contract Network.sol:Network, solc ${networkCompiler.replace(/\.Emscripten.*$/, '')}`,
  );
}

export const networkSourceCommands: readonly Command[] = [abi, source];
