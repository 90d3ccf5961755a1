"""What a gateway counts (Prometheus)."""

from prometheus_client import Counter, Gauge, Histogram

REFUSED = Counter("fleetlog_agent_refused_total", "What agents sent and was refused.", ["code"])
CONNECTS_REFUSED = Counter("fleetlog_agent_connects_refused_total", "Connects to NATS that were refused.", ["code"])
CONNECTS_ALLOWED = Counter("fleetlog_agent_connects_allowed_total", "Connects to NATS that were allowed.")
HELLOS = Counter("fleetlog_agent_hellos_total", "Check-ins.", ["transport"])
RESULTS = Counter(
    "fleetlog_agent_results_total",
    "Results taken: `new`, `late` (kept; the ending stands) or `duplicate` (sent again; nothing changes).",
    ["detail"],
)
UPLINK_UNDER_WAY = Gauge("fleetlog_uplink_under_way", "Agents' messages that are being answered now.")
UPLINK_UNDER_WAY_BYTES = Gauge("fleetlog_uplink_under_way_bytes", "The same in bytes.")
UNANSWERED_FLOOD = Counter(
    "fleetlog_agent_flood_dropped_total", "Messages of agents that went on after they were asked to wait; not answered."
)
ORDERS_REFUSED = Counter(
    "fleetlog_orders_refused_total",
    "What came to agents in the server's name and was refused: altered, redirected, replayed, or kept back.",
    ["why"],
)
DROPPED = Counter(
    "fleetlog_nats_dropped_total",
    "Messages that NATS brought and that found their queue full; their senders repeat them.",
)
OUTPUTS_MISSING = Counter("fleetlog_agent_outputs_missing_total", "Results whose output had not been sent before.")
ORDERS = Counter("fleetlog_orders_total", "Orders answered by agents.", ["status"])
UNANSWERED = Counter("fleetlog_deliveries_unanswered_total", "Deliveries without an answer.", ["why"])
TAKEOVERS = Counter("fleetlog_lease_takeovers_total", "Leases taken over with commands whose fate was unknown.")
KICKS = Counter("fleetlog_agent_kicks_total", "Connections ended since the agent was suspended or retired.")
ONLINE = Gauge("fleetlog_agents_connected", "Agents with a NATS connection, as this gateway knows.")
ENROLLED = Counter("fleetlog_enrollments_total", "Answers to enrollment requests.", ["code"])
DRAIN_WAITING = Gauge("fleetlog_drain_waiting", "Agents that wait to be looked at for something to deliver.")
DRAIN_HANGING = Gauge("fleetlog_drain_hanging", "Agents that take long to answer a delivery, and hold up nobody.")
DELIVERY_S = Histogram(
    "fleetlog_delivery_seconds",
    "From sending orders to the agent's answer.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
UPLINK_S = Histogram(
    "fleetlog_uplink_seconds",
    "From an agent's message to our answer.",
    ["kind"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
DUPLICATES = Counter("fleetlog_agent_duplicates", "Connections of machines that were shut out as clones of an agent.")
