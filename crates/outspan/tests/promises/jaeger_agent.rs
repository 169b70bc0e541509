//! The promises that every exporter keeps, for a Jaeger agent on UDP.

#![cfg(feature = "jaeger")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

// Not every test needs all of it.
#[allow(dead_code)]
use outspan::Exporter;
use outspan::jaeger;
use outspan::jaeger::Protocol;
use outspan_testkit::SpanId;
use outspan_testkit::promises::Behaviour;
use outspan_testkit::promises::Rig;

use crate::jaeger_agent_fake::FakeAgent;

macro_rules! promises_of_agents {
    ($protocol:expr) => {
        outspan_testkit::promises!(
            AgentRig::new($protocol),
            exempt: {
                refusal_is_permanent: "UDP has no word for it: that nothing listens is all that a sender hears, and that may pass",
                a_dropped_future_leaks_nothing: "a datagram is answered by nobody, so no export waits; tests/jaeger_agent.rs drops exports",
                returns_by_the_deadline: "a datagram is answered by nobody, so no export waits; tests/jaeger_agent.rs lets the pace exceed the deadline",
                debug_shows_no_secret: "an agent is given no secret",
            }
        );
    };
}

mod compact {
    use super::*;

    promises_of_agents!(Protocol::Compact);
}

mod binary {
    use super::*;

    promises_of_agents!(Protocol::Binary);
}

/// An agent. Whatever it does not take it is not there for.
struct AgentRig {
    agent: FakeAgent,
    protocol: Protocol,
}

impl AgentRig {
    fn new(protocol: Protocol) -> Self {
        Self {
            agent: FakeAgent::start(),
            protocol,
        }
    }
}

impl Rig for AgentRig {
    async fn exporter(&self) -> Exporter {
        let builder = jaeger::agent(self.agent.address());
        builder.protocol(self.protocol).build().unwrap()
    }

    async fn behave(&self, behaviour: Behaviour) {
        match behaviour {
            Behaviour::Accept | Behaviour::NeverAnswer => self.agent.restart(),
            Behaviour::Refuse | Behaviour::Overload | Behaviour::Outage => self.agent.stop(),
        }
    }

    async fn received(&self) -> Vec<SpanId> {
        self.agent.span_ids()
    }

    async fn calls(&self) -> usize {
        self.agent.packets().len()
    }

    async fn wait_for_calls(&self, _calls: usize) {
        unreachable!("the promise that waits is exempt");
    }

    async fn wait_until_idle(&self) {
        unreachable!("the promise that waits is exempt");
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
