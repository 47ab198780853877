"""The cost of model calls in USD, by the prices of the day they were made."""

from agentpulse_exporter._pricing.calculate import calculate_cost
from agentpulse_exporter._pricing.cost import Cost, price
from agentpulse_exporter._pricing.overrides import PriceOverrides

__all__ = ["Cost", "PriceOverrides", "calculate_cost", "price"]
