/** `completion bash|zsh|fish`: a script for the shell, made from the table of commands, which completes their words and options. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, UsageError } from './command.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Lines, to be read by the shell: `source <(npx dstack completion bash)`. @throws USAGE */
export function completion(words: readonly string[], commands: readonly Command[]): readonly string[] {
  const [shell, ...more] = words;
  if (shell === undefined || !SHELLS.some((known) => known === shell) || more.length > 0) {
    throw new UsageError(`\`completion\` takes ${SHELLS.join(', ')}: source <(npx dstack completion bash)`);
  }
  if (shell === 'fish') return fish(commands);
  const cases = [...following(commands)].map(
    ([before, next]) => `'${before}') COMPREPLY=($(compgen -W '${next.join(' ')}' -- "$word")) ;;`,
  );
  const script = readFileSync(join(import.meta.dirname, 'completion.bash'), 'utf8')
    .trimEnd()
    .split('\n');
  return [
    // zsh reads bash's completions.
    ...(shell === 'zsh'
      ? ['autoload -U +X compinit && compinit', 'autoload -U +X bashcompinit && bashcompinit']
      : []),
    ...script.flatMap((line) => (line.trim() === '@CASES@' ? cases.map((one) => `    ${one}`) : [line])),
  ];
}

/** What may come after the words so far: further words, or the options of a command. */
function following(commands: readonly Command[]): ReadonlyMap<string, readonly string[]> {
  const next = new Map<string, Set<string>>();
  const add = (before: string, word: string) => next.set(before, (next.get(before) ?? new Set()).add(word));
  for (const { name, options } of commands) {
    const words = name.split(' ');
    for (const [at, word] of words.entries()) add(words.slice(0, at).join(' '), word);
    for (const option of [...Object.keys(options), 'help']) add(name, `--${option}`);
  }
  return new Map([...next].map(([before, words]) => [before, [...words]]));
}

function fish(commands: readonly Command[]): readonly string[] {
  const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
  return commands.flatMap(({ name, summary, options }) => {
    const words = name.split(' ');
    const seen = (some: readonly string[]) =>
      some.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ');
    const before = words.slice(0, -1);
    const condition = `${before.length === 0 ? '__fish_use_subcommand' : seen(before)}`;
    return [
      ...(before.length > 0 ? [`complete -c dstack -f -n __fish_use_subcommand -a ${before[0]}`] : []),
      `complete -c dstack -f -n ${quoted(condition)} -a ${words.at(-1)} -d ${quoted(summary)}`,
      ...Object.entries(options).map(
        ([option, { help, value }]) =>
          `complete -c dstack -n ${quoted(seen(words))} -l ${option}${value === undefined ? '' : ' -r'} -d ${quoted(help)}`,
      ),
    ];
  });
}
