/**
 * Loaded with `node --import` into a daemon: with each SIGUSR2 its boot clock is 70 minutes further, as if it had run for so long. Its
 * timers go on as they were.
 */
const SEVENTY_MINUTES = 70 * 60_000;
const realNow = performance.now.bind(performance);
let ahead = 0;

performance.now = () => realNow() + ahead;
process.on('SIGUSR2', () => {
  ahead += SEVENTY_MINUTES;
});
