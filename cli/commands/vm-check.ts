/** `vm check`: what this machine lacks for VMs of a flavour. */
import { checkMachine, checkTdx, type Finding } from '../../host/vm/host-check.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { flavours } from '../../lib/protocol/network-config.ts';
import { type Command, narrationOptions } from '../command.ts';
import { flavourOf } from '../flavour.ts';

export const checkCommand: Command = {
  name: 'vm check',
  summary: 'says what this machine lacks for running VMs; nothing is started or changed',
  options: {
    flavour: {
      value: flavours.join('|'),
      help: 'of the image that is to run: a production image needs TDX, the others run anywhere',
      default: 'production',
    },
    json: { help: 'one JSON object: flavour, runs, findings' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const flavour = flavourOf(args);
    const isProduction = flavour === 'production';
    const machine = checkMachine();
    const findings = isProduction ? [...machine, ...(await checkTdx())] : machine;
    const missing = findings.filter(
      ({ what, state }) => state === 'missing' && (isProduction || what !== 'KVM'),
    );
    const runs =
      missing.length > 0 ? 'no' : findings.some(({ state }) => state === 'unknown') ? 'maybe' : 'yes';
    if (args.flag('json')) printJson({ flavour, runs, findings });
    else print(...findings.flatMap(linesOf), '', conclusion(flavour, runs, missing));
    if (runs === 'no') process.exitCode = 1;
  },
};

function linesOf({ what, state, seen, advice }: Finding): string[] {
  const first = `${state.padEnd(8)} ${what}: ${seen}`;
  return state === 'ok' || advice === undefined ? [first] : [first, `${' '.repeat(9)}${advice}`];
}

function conclusion(flavour: string, runs: 'yes' | 'no' | 'maybe', missing: readonly Finding[]): string {
  if (runs === 'yes') return `A ${flavour} image runs here.`;
  if (runs === 'maybe')
    return `Nothing is missing for a ${flavour} image, as far as this can be seen before one starts.`;
  const other = flavour === 'production' ? ' `--flavour sim` says whether a simulated one does.' : '';
  return `A ${flavour} image does not run here: ${missing.length} missing.${other}`;
}
