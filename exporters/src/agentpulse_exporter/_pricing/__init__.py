"""The cost of model calls in USD, by the prices of the day they were made."""

from agentpulse_exporter._pricing.cost import Usage, calculate_cost, price
from agentpulse_exporter._pricing.overrides import PriceOverrides
from agentpulse_exporter._pricing.tariff import Cost

__all__ = ["Cost", "PriceOverrides", "Usage", "calculate_cost", "price"]
