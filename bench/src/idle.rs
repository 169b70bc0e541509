//! What a program takes that has nothing to do: 3 s after its start it forwards one request, and is looked at 3 s later.

use std::time::Duration;

use crate::forward::mib;
use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::less_is_better;
use crate::measure::note;
use crate::measure::target_at_most;
use crate::roles::load::Load;
use crate::roles::program::Which;
use crate::through::Lengths;
use crate::through::Run;

const NAME: &str = "idle/rss";

pub(crate) fn run(quick: bool) -> Outcome {
    let ours = rss(Which::Ours, quick)?;
    let peer = rss(Which::Peer, quick)?;
    less_is_better(NAME, "MiB", mib(ours), mib(peer));
    target_at_most(NAME, "MiB", 12.0, mib(ours));
    Ok(())
}

fn rss(which: Which, quick: bool) -> Result<u64, String> {
    let idle = Duration::from_secs(if quick { 1 } else { 3 });
    let run = Run {
        connections: 1,
        in_flight: 1,
        // The first request goes at once; the next one never comes.
        offered: Some(1),
        ..Run::new(which, Lengths::new(quick))
    };
    let receiver = run.receiver()?;
    let program = run.program(&receiver)?;
    std::thread::sleep(idle);
    let load = Load::start(&run.load(&program.address))?;
    let cpu = program.cpu()?;
    std::thread::sleep(idle);
    let cpu = program.cpu()?.since(&cpu);
    let rss = program.rss()?;
    let sent = load.finish()?;
    program.terminate(run.drain)?;
    let arrived = receiver.finish()?;
    check(
        sent.acknowledged == run.spans && arrived.spans == run.spans && arrived.wrong == 0,
        || format!("{}: {sent:?}, {arrived:?}", which.as_str()),
    )?;
    note(&format!(
        "{}: forwarded one request of {} spans; {:.2} ms of CPU within {} s",
        which.as_str(),
        run.spans,
        cpu.as_secs_f64() * 1e3,
        idle.as_secs()
    ));
    Ok(rss)
}
