/** A public address that this machine has for a while: apps reach none of its others. To give the machine an address takes root. */
import { $ } from 'zx';

/** Of radio amateurs, and used by none: addresses that are reserved for examples are closed to apps too. */
export const PUBLIC_ADDRESS = '44.0.0.7';

const sudo = process.getuid?.() === 0 ? [] : ['sudo'];

/** @returns takes it away again */
export async function havePublicAddress(): Promise<() => Promise<void>> {
  const on = async (action: string) => {
    const command = [...sudo, 'ip', 'address', action, `${PUBLIC_ADDRESS}/32`, 'dev', 'lo'];
    await $({ quiet: true })`${command}`;
  };
  await on('replace');
  return () => on('delete');
}
