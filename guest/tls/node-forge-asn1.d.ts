/** The one part of node-forge that is loaded: its types come with the whole package only. */
declare module 'node-forge/lib/asn1.js' {
  import type { asn1 } from 'node-forge';

  const part: typeof asn1;
  export = part;
}
