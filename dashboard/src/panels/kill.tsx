/** The button that kills the server, and what became of everybody afterwards. */
import { useEffect, useState } from 'react';
import { STATUS, asStatus, isClean, pressKill, verdictLine } from '../demo';
import type { Status, Verdict } from '../demo';
import { age, count, milliseconds } from '../format';
import { useChannel, useLink, useNow } from '../stream/hooks';
import type { Link } from '../stream/store';

/** A press that nobody answered within this time was not heard. */
const HEARD_MS = 5_000;
/** The supervisor speaks every second; a page that hears none of it is served by a plain server. */
const SUPERVISOR_MS = 4_000;

export function Kill({ channels }: { channels: readonly string[] }) {
  const status = asStatus(useChannel(STATUS).latest?.data);
  const link = useLink();
  const now = useNow();
  const [pressed, setPressed] = useState<{ at: number; kills: number }>();
  const [problem, setProblem] = useState<string>();
  const waiting = pressed !== undefined && (status?.kills ?? 0) <= pressed.kills && link.state === 'live';
  const unheard = waiting && now - pressed.at > HEARD_MS;
  const verdict = status?.verdicts.at(-1);
  const idle = status?.phase === 'running' && link.state === 'live';

  useEffect(() => {
    if (unheard) setProblem('Nobody answered: is the demo’s supervisor running?');
  }, [unheard]);

  const press = () => {
    setProblem(undefined);
    setPressed({ at: Date.now(), kills: status?.kills ?? 0 });
    pressKill().catch((error: unknown) => {
      // A server that dies before it answers is what was asked for.
      if (error instanceof TypeError) return;
      setProblem(`Not pressed: ${error instanceof Error ? error.message : String(error)}`);
    });
  };

  const isPlain = link.state === 'live' && now - link.since > SUPERVISOR_MS;
  const alone = isPlain
    ? 'This server runs alone: cargo xtask demo starts it with feeds, clients and this button.'
    : 'Waiting for the supervisor.';
  return (
    <section className="kill" aria-label="Kill the server">
      <div className="trigger">
        <button type="button" className="danger" disabled={!idle || (waiting && !unheard)} onClick={press}>
          kill -9 the server
        </button>
        <p className="note">
          {status ? `SIGKILL to pid ${status.pid}: no warning, no flush.` : alone}
        </p>
      </div>
      <div className="outcome" aria-live="polite">
        <Progress status={status} link={link} now={now} waiting={waiting && !unheard} />
        {verdict && status?.phase === 'running' && link.state === 'live' ? (
          <Outcome verdict={verdict} />
        ) : null}
        {problem ? <p className="problem">{problem}</p> : null}
        <Page channels={channels} link={link} />
      </div>
    </section>
  );
}

interface ProgressProps {
  status: Status | undefined;
  link: Link;
  now: number;
  waiting: boolean;
}

function Progress({ status, link, now, waiting }: ProgressProps) {
  if (link.state === 'lost') {
    return (
      <p className="line busy" data-state="lost">
        The server is gone. This page reconnects by itself … {age(now - link.since)}
      </p>
    );
  }
  if (waiting) {
    return <p className="line busy" data-state="pressed">Pressed …</p>;
  }
  if (status?.phase === 'killed' || status?.phase === 'resuming') {
    return (
      <>
        <p className="line busy" data-state="resuming">
          Restarted. {count(status.resumed)} of {count(status.of)} clients have resumed …
        </p>
        <progress max={status.of} value={status.resumed} aria-label="Clients that have resumed" />
      </>
    );
  }
  if (status?.phase === 'starting') {
    return <p className="line busy" data-state="starting">Starting: clients are connecting …</p>;
  }
  if (status && status.verdicts.length === 0) {
    return (
      <p className="line" data-state="ready">
        Press it. {count(status.clients)} clients lose their connection in the middle of everything;
        each must come back to exactly where it was.
      </p>
    );
  }
  return null;
}

function Outcome({ verdict }: { verdict: Verdict }) {
  const clean = isClean(verdict);
  return (
    <>
      <p className={`line verdict ${clean ? 'clean' : 'unclean'}`} data-state="verdict">
        {verdictLine(verdict, count)}
      </p>
      <dl className="steps">
        <Step name="port open after" value={milliseconds(verdict.listening_ms)} />
        <Step name={verdict.finished ? 'all back after' : 'given up after'} value={milliseconds(verdict.resumed_ms)} />
        <Step name="acknowledged events looked up" value={count(verdict.acknowledged)} />
        <Step name="gaps" value={count(verdict.gaps)} />
        <Step name="kill" value={`no. ${verdict.kill}`} />
      </dl>
    </>
  );
}

function Step({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The page is a client, too, and counts for itself. */
function Page({ channels, link }: { channels: readonly string[]; link: Link }) {
  const views = channels.map(useChannel);
  if (link.resumes === 0) return null;
  const lost = views.reduce((sum, view) => sum + view.lost, 0);
  const repeats = views.reduce((sum, view) => sum + view.repeats, 0);
  const times = link.resumes === 1 ? 'once' : `${link.resumes} times`;
  return (
    <p className="note" data-page-lost={lost}>
      This page resumed {times} from its last event id: lost {count(lost)}
      {repeats > 0 ? `, ${count(repeats)} repeats of the last flush recognised and dropped` : ''}.
    </p>
  );
}
