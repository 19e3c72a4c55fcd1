/** `relay run`: the host's relay, in the foreground. */
import { runRelay } from '../../host/relay/main.ts';
import { readEnvironment, relaySettings } from '../../host/relay/settings.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import type { Command } from '../command.ts';

export const envFileOption = { value: 'FILE', help: 'settings; host.env.example documents all of them' };

const run: Command = {
  name: 'relay run',
  summary: "runs the relay: registers this host's nodes, pays their gas, gossips",
  options: { 'env-file': envFileOption },
  async run(args) {
    const relay = await runRelay(relaySettings(readEnvironment(args.optional('env-file'), process.env)));
    for (const gossip of relay.gossipUrls) {
      printJson({ msg: 'relay runs', gossip, admin: relay.adminUrl });
    }
    await stopSignal();
    await relay.close();
  },
};

export const relayCommands: readonly Command[] = [run];
