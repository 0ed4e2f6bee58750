// A message every second. Browsers slow the timers of hidden pages down to one a minute, those of workers they do not.

setInterval(() => postMessage(null), 1000);
