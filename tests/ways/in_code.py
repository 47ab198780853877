"""The first way: AgentPulse is switched on in code."""

from night import work

import agentpulse

agentpulse.init()
work()
