// Something that many events ask for, done at once and then at most once in a while; what is asked meanwhile is done after it.

/** Return a function that asks for `run`: never two at a time, `gapMs` from one start to the next, the last wish is kept. */
export function pace(run: () => Promise<void>, gapMs: number): () => void {
  let running = false;
  let wished = false;
  const start = async (): Promise<void> => {
    running = true;
    const started = performance.now();
    try {
      await run();
    } finally {
      setTimeout(() => {
        running = false;
        if (wished) {
          wished = false;
          void start();
        }
      }, Math.max(0, gapMs - (performance.now() - started)));
    }
  };
  return () => {
    if (running) wished = true;
    else void start();
  };
}
