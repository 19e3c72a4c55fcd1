/** What a command of the CLI is, and how its arguments are read: one table, which is also the source of the help. */
import { parseArgs } from 'node:util';
import { print, printError } from '../lib/daemon/terminal.ts';
import { DstackError } from '../lib/protocol/errors.ts';

export interface Option {
  /** The placeholder for the value in the help; absent for a switch. */
  value?: string;
  help: string;
  /** One letter, where another tool's users expect it. */
  short?: string;
  /** The environment variable that gives it when the command line does not. */
  env?: string;
  default?: string;
  required?: boolean;
  /** May be given more than once; the values are joined by a newline, which no value may hold. */
  multiple?: boolean;
  /** What it was called in earlier releases. Refused, so that a script which still uses it is told the new name. */
  formerly?: string;
}

export interface Arguments {
  /** The value of a required option or one with a default. */
  text(name: string): string;
  optional(name: string): string | undefined;
  list(name: string): string[];
  flag(name: string): boolean;
  /** Whether it is on the command line itself, and not of the environment or a default. */
  isTyped(name: string): boolean;
  positionals: readonly string[];
}

export interface Command {
  name: string;
  summary: string;
  /** Their names in the help: one that ends with `…` may be given more than once, one in brackets may be missing. */
  positionals?: readonly string[];
  options: Record<string, Option>;
  run(args: Arguments): Promise<void>;
}

/** Of every command whose lines for people are not all that it has to say. */
export const narrationOptions = {
  json: {
    help: 'one JSON object on standard output, as docs/cli.md has it; what people read goes to standard error',
  },
  quiet: { help: 'no lines for people; errors are printed all the same', short: 'q' },
} satisfies Record<string, Option>;

/** How a command with these options tells people what happens. */
export function narration(args: Arguments): (...lines: readonly string[]) => void {
  if (args.flag('quiet')) return () => {};
  return args.flag('json') ? printError : print;
}

/** A mistake in how the command was called: exit code 2. */
export class UsageError extends DstackError {
  constructor(message: string, code = 'USAGE') {
    super(code, message);
  }
}

/** Runs a check of what was typed: what it refuses is a mistake in how the command was called, under the check's own code. */
export function typed<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof DstackError) throw new UsageError(error.message, error.code);
    throw error;
  }
}

export function readArguments(command: Command, argv: readonly string[]): Arguments {
  const options = Object.fromEntries(
    Object.entries(command.options).map(([name, option]) => [
      name,
      {
        type: option.value === undefined ? ('boolean' as const) : ('string' as const),
        multiple: option.multiple ?? false,
        ...(option.short !== undefined && { short: option.short }),
      },
    ]),
  );
  refuseFormer(command, argv);
  let parsed: { values: Record<string, unknown>; positionals: string[]; tokens: Token[] };
  try {
    const config = { args: [...argv], options, allowPositionals: true, strict: true, tokens: true };
    parsed = parseArgs(config) as typeof parsed;
  } catch (error) {
    throw new UsageError(plainly(command, argv, error as Error & { code?: string }));
  }
  refuseTwice(command, parsed.tokens);
  refuseEmpty(parsed.values);
  const wanted = command.positionals ?? [];
  const least = wanted.filter((name) => !name.startsWith('[')).length;
  const most = wanted.some((name) => name.endsWith('…')) ? Number.POSITIVE_INFINITY : wanted.length;
  if (parsed.positionals.length < least || parsed.positionals.length > most) {
    throw new UsageError(
      `\`${command.name}\` takes ${wanted.length === 0 ? 'no arguments' : wanted.join(' ')}: \`npx dstack ${command.name} --help\` explains it`,
    );
  }

  const optional = (name: string): string | undefined => {
    const option = command.options[name]!;
    const given = parsed.values[name];
    return (given as string | undefined) ?? fromEnvironment(option.env) ?? option.default;
  };
  for (const [name, option] of Object.entries(command.options)) {
    if (option.required && optional(name) === undefined) {
      throw new UsageError(
        `--${name} is missing${option.env ? ` (or ${option.env} in the environment)` : ''}: ${option.help}`,
      );
    }
  }
  return {
    optional,
    text(name) {
      const value = optional(name);
      if (value === undefined) throw new UsageError(`--${name} is missing`);
      return value;
    },
    list: (name) => (parsed.values[name] as string[] | undefined) ?? [],
    flag: (name) => parsed.values[name] === true,
    isTyped: (name) => parsed.values[name] !== undefined,
    positionals: parsed.positionals,
  };
}

/** An empty one is the mark of a script whose own variable is unset, and says nothing. @throws USAGE */
function fromEnvironment(name: string | undefined): string | undefined {
  const value = name === undefined ? undefined : process.env[name];
  if (value === '') throw new UsageError(`${name} is set but empty: give it a value or unset it`);
  return value;
}

/** What is wrong with the options, in one sentence: Node's own has line breaks and advises what does not help here. */
function plainly(
  { name: command }: Command,
  argv: readonly string[],
  { code, message }: Error & { code?: string },
): string {
  const name = /'(-.*?)[', ]/.exec(message)?.[1];
  const help = `\`npx dstack ${command} --help\` lists the options`;
  if (name === undefined) return message;
  // `-1h` is read as an option -1, which nobody typed.
  const negative = /^-[0-9]/.test(name) ? argv.find((word) => word.startsWith(name)) : undefined;
  if (negative !== undefined)
    return `no number or duration is negative here, and ${negative} is no option: ${help}`;
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return `\`${command}\` has no option ${name}: ${help}`;
  if (code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return message;
  return message.includes('does not take')
    ? `${name} takes no value: ${help}`
    : `${name} needs a value after it: ${help}`;
}

interface Token {
  readonly kind: string;
  readonly name?: string;
}

function refuseFormer({ options }: Command, argv: readonly string[]): void {
  for (const [name, { formerly }] of Object.entries(options)) {
    if (formerly === undefined) continue;
    if (argv.some((word) => word === `--${formerly}` || word.startsWith(`--${formerly}=`))) {
      throw new UsageError(`--${formerly} is called --${name} now`);
    }
  }
}

/** Like an empty variable of the environment, it is the mark of a script whose own variable is unset. @throws USAGE */
function refuseEmpty(values: Readonly<Record<string, unknown>>): void {
  for (const [name, given] of Object.entries(values)) {
    if ([given].flat().includes('')) throw new UsageError(`--${name} is given without a value: it is empty`);
  }
}

/** Of two contracts or chain ids the last would silently win. @throws USAGE */
function refuseTwice(command: Command, tokens: readonly Token[]): void {
  const seen = new Set<string>();
  for (const { kind, name } of tokens) {
    if (kind !== 'option' || name === undefined) continue;
    const option = command.options[name];
    if (seen.has(name) && option?.value !== undefined && !option.multiple) {
      throw new UsageError(`--${name} is given twice, and takes one value`);
    }
    seen.add(name);
  }
}

/** Lines. */
export function helpOf(command: Command): readonly string[] {
  const lines = Object.entries(command.options).map(([name, option]) => {
    const short = option.short === undefined ? '' : `-${option.short}, `;
    const left = `  ${short}--${name}${option.value ? ` ${option.value}` : ''}`.padEnd(30);
    const notes = [
      option.required ? 'required' : undefined,
      option.default === undefined ? undefined : `default ${option.default}`,
      option.env,
    ].filter((note) => note !== undefined);
    return `${left} ${option.help}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`;
  });
  const usage = ['npx dstack', command.name, ...(command.positionals ?? [])].join(' ');
  return [usage, `  ${command.summary}`, ...lines];
}
