/** How apps end, and what is told of them. */
import { type Mutation, one } from '../mutation.ts';

const APP = 'guest/kubernethes/app.ts';
const supervisor = 'guest/kubernethes/supervisor.test.ts';
const rollout = 'guest/kubernethes/rollout.test.ts';
const restart = 'guest/kubernethes/restart.test.ts';
const superseded = 'guest/kubernethes/superseded.test.ts';
const CONTAINERS = 'guest/kubernethes/containers.ts';

export const appRules: readonly Mutation[] = [
  one(
    'apps',
    'the end of a version that was superseded',
    [APP, 'if (isOver(deployment.superseded)) {', 'if (isOver(undefined)) {'],
    [superseded, 'ends when the grace is over'],
  ),
  one(
    'apps',
    'that keys stop before anybody has looked again',
    [APP, 'const ended = this.#overdue(deployment);', 'const ended = this.#ended;'],
    [superseded, 'ends when the grace is over'],
  ),
  one(
    'apps',
    'that its time counts from when the rollout took effect',
    [APP, 'since ?? this.#options.chainNow()', 'this.#options.chainNow()'],
    [superseded, 'a first look long after the rollout'],
  ),
  one(
    'apps',
    'that its time counts from the first rollout that it did not follow',
    [APP, 'Math.min(before ?? Number.POSITIVE_INFINITY, ', 'Math.min(Number.POSITIVE_INFINITY, '],
    [superseded, 'one rollout after the other gives no more time'],
  ),
  one(
    'apps',
    'that a daemon which starts again goes on counting',
    [APP, 'hash === record?.serving ? record.superseded : undefined', 'undefined'],
    [superseded, 'does not begin anew: a next one hides since when'],
  ),
  one(
    'apps',
    'that a switch is not undone because it cannot be written down',
    [APP, '      this.#rememberOrRetry();\n    } catch', '      this.#remember();\n    } catch'],
    [restart, 'undoes no switch, is said once'],
  ),
  one(
    'apps',
    'the end of every app when the contract was not read',
    [APP, 'if (!isOver(this.#neighbours.readAt())) return undefined;', 'if (grace > 0) return undefined;'],
    [superseded, 'a day ends it, and it comes back by itself'],
  ),
  one(
    'apps',
    'that a daemon which starts again knows when the contract was read',
    ['guest/kubernethes/supervisor.ts', 'Math.min(at, kept.readAt() ?? at)', 'at'],
    [superseded, 'remembers when the contract was read'],
  ),
  one(
    'apps',
    "the agent's refusal of an app that has ended",
    ['guest/callers.ts', 'if (found?.ended !== undefined)', 'if (found?.app === undefined && found?.ended)'],
    ['guest/agent/agent.test.ts', 'an app that has ended gets no key'],
  ),
  one(
    'apps',
    'the silence about private logs',
    [CONTAINERS, "if (plan.logs !== 'public') continue;", ''],
    [supervisor, 'of private logs nothing'],
  ),
  one(
    'apps',
    'the silence about what a container with private logs answers',
    ['guest/kubernethes/probe.ts', 'if (!isPublic) return', 'if (status === 0) return'],
    ['guest/kubernethes/probe.test.ts', 'what one with private logs answers'],
  ),
  one(
    'apps',
    "the bound of apps' own text in a status",
    ['guest/kubernethes/shown.ts', 'if (bytes + size > most) break;', ''],
    [supervisor, "a flood of apps' own text"],
  ),
  one(
    'apps',
    'that a rollout which fails for ever pushes no other out of the history',
    ['guest/kubernethes/history.ts', 'own.length > appsStatusLimits.rolloutsPerApp', 'own.length > 1000'],
    ['guest/kubernethes/history.test.ts', 'of one that fails for ever'],
  ),
  one(
    'apps',
    'that a container which was stopped for a new version did not end by itself',
    [
      CONTAINERS,
      "if (plan.restart === 'always' || interrupted === true) return false;",
      "if (plan.restart === 'always') return false;",
    ],
    [rollout, 'what was stopped for a new version is started again'],
  ),
  one(
    'apps',
    'that an old container which the engine does not let go of is removed later',
    [
      APP,
      'await this.#quietly(() => engine.stop(id, plan.stopSeconds));\n    this.#containers.discard(old',
      'await engine.stop(id, plan.stopSeconds);\n    this.#containers.discard(old',
    ],
    [rollout, 'that the engine does not let go of at first'],
  ),
  one(
    'apps',
    "the bound of what the engine has to say of an app's image to whoever lists them all",
    ['guest/kubernethes/deployment.ts', '      assertImageConfig(image.config);\n', ''],
    ['guest/kubernethes/deployment.test.ts', 'an image of which the engine would have too much to say'],
  ),
  one(
    'apps',
    'the refusal of a range of ports, under any name that the engine takes for it',
    ['lib/archives/image-config.ts', '/^exposedports$/iu', '/^ExposedPorts$/'],
    ['lib/archives/image-config.test.ts', 'a range under a name that the engine takes for the same'],
  ),
  one(
    'apps',
    'that a command which does not end has no second one beside it',
    ['guest/kubernethes/podman.ts', 'if (await stillRuns(id)) return undefined;', ''],
    ['guest/kubernethes/podman.test.ts', 'a command that does not end has no second one'],
  ),
  one(
    'apps',
    'that of a command which has ended no process is kept for minutes',
    [
      'guest/image/rootfs/etc/containers/containers.conf',
      'exit_command_delay = 10',
      'exit_command_delay = 300',
    ],
    ['guest/kubernethes/podman.test.ts', 'podman keeps no process for long'],
  ),
  one(
    'apps',
    'the refusal of a command that podman takes for systemd',
    [
      'guest/kubernethes/podman.ts',
      'if (made.Config.SystemdMode !== true) return;',
      'if (made.Config) return;',
    ],
    ['guest/kubernethes/podman.test.ts', 'makes none whose command podman takes for systemd'],
  ),
  one(
    'apps',
    'that a daemon which starts again takes over all others, if the engine does not answer for one',
    [CONTAINERS, "isRunning && instance.address === ''", "isRunning && instance.address === 'none'"],
    [restart, 'takes over all others, if the engine does not answer for one'],
  ),
  one(
    'apps',
    'the refusal of an image in which the engine would read a FIFO',
    ['guest/kubernethes/podman.ts', '(file.mode & NO_FILE) === 0 && ', ''],
    ['guest/kubernethes/podman.test.ts', 'a FIFO, at which it would wait for ever is refused'],
  ),
  one(
    'apps',
    'the look at that, before anything of an image is started',
    ['guest/kubernethes/deployment.ts', '      await engine.assertReadable(digest);\n', ''],
    ['guest/kubernethes/deployment.test.ts', 'an image that the engine cannot read by itself'],
  ),
  one(
    'apps',
    "the refusal of variables of the engine's in an image",
    ['lib/archives/image-config.ts', "String(line).includes('=')", "typeof line === 'string'"],
    ['lib/archives/image-config.test.ts', "a variable of the engine's"],
  ),
  one(
    'apps',
    'that an app fills no log by what it is refused for',
    ['guest/agent/server.ts', 'if (before !== undefined && now() - before < SAID_FOR) return true;', ''],
    ['guest/agent/agent.test.ts', 'refused for one thing and another, in turns'],
  ),
  one(
    'apps',
    'that what was to be stopped for a new version, and was not, is no longer taken for stopped',
    [APP, 'if (stopped || marked)', 'if (stopped)'],
    [rollout, 'what was to be stopped for a new version, and was not'],
  ),
];
