/** Names of the simulated platform's certificates. They say what it is. */
export const SIMULATED_ROLES = {
  root: 'Dstack Simulated Root CA',
  intermediates: ['Dstack Simulated PCK Platform CA'],
  leaf: 'Dstack Simulated PCK Certificate',
  tcbSigner: 'Dstack Simulated TCB Signing',
} as const;
