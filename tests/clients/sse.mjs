// Event streams as a browser reads them: `eventsource` from npm or undici's, chosen by the first
// argument. Prints a line of JSON for everything that happens; runs until it is killed.
// Arguments: library, URL, then the event types to listen for besides `message`.
import * as npm from "eventsource";
import * as undici from "undici";

const [library, url, ...types] = process.argv.slice(2);
const EventSource = library === "undici" ? undici.EventSource : npm.EventSource;
const source = new EventSource(url);
const say = (what) => console.log(JSON.stringify(what));
source.onopen = () => say({ happened: "open" });
source.onerror = () => say({ happened: "error" });
for (const type of ["message", ...types]) {
  source.addEventListener(type, ({ data, lastEventId }) =>
    say({ happened: "event", type, data, id: lastEventId }),
  );
}
setInterval(() => {}, 1000);
