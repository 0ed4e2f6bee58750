// Audio contexts that go on after the system stopped them: a phone call, a sleep of the computer.

/** Start `context` again when it was stopped, and tell of each change. Where a browser wants a click first, it stays stopped. */
export function keepRunning(context, onChange) {
  context.onstatechange = () => {
    if (context.state === "suspended") context.resume().catch(() => {});
    onChange();
  };
}
