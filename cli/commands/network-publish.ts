/** `network publish`: a folder with which anybody can audit a network, now and when its relays are gone. */
import { resolve } from 'node:path';
import { printJson } from '../../lib/daemon/terminal.ts';
import { publish } from '../audit/publish.ts';
import { type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { flavourOf } from '../flavour.ts';
import { contractOption, requireAddress } from '../owner/connection.ts';
import { auditOptions, readingOptions } from './audit.ts';

export const networkPublish: Command = {
  name: 'network publish',
  summary:
    "writes a network's public files into a folder that `audit` reads: contract, quotes, records, what the chain says",
  options: {
    contract: { ...contractOption, help: "the network's contract", required: true },
    out: { value: 'DIR', help: 'a new folder, such as auditing/NAME', required: true },
    ...readingOptions,
    ...narrationOptions,
  },
  async run(args) {
    const contract = requireAddress('contract', args.text('contract'));
    const flavour = flavourOf(args);
    const options = auditOptions(args);
    if (options.archives.length === 0)
      throw new UsageError(
        "--archive is missing: the records are in a relay's archive, its folder or its URL",
      );
    const out = resolve(args.text('out'));
    const report = await publish({ ...options, contract, flavour, out });
    const { verdict, head, findings } = report;
    if (args.flag('json')) printJson({ out, verdict, block: head.number, hash: head.hash, findings });
    narration(args)(
      ...findings.map(
        ({ severity, code, where, message }) => `${severity.toUpperCase()}  ${code} (${where}): ${message}`,
      ),
      `written  ${out}, as of block ${head.number} (${head.hash})`,
      `verdict  ${verdict}: what an audit of the folder says to who knows that block`,
    );
    if (verdict === 'failed') process.exitCode = 1;
  },
};
