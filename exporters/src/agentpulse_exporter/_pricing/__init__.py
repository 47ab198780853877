"""What calls to language models cost, in USD, by the prices of the day they were made."""

from agentpulse_exporter._pricing.calculate import calculate_cost, price
from agentpulse_exporter._pricing.overrides import PriceOverrides
from agentpulse_exporter._pricing.usage import Cost, Usage

__all__ = ["Cost", "PriceOverrides", "Usage", "calculate_cost", "price"]
