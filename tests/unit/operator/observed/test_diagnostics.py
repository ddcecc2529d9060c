"""Diagnoses of a feed's parts: one row for each situation, with the reason that users look up."""

from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import KafkaException

from k2.common.kafka_connection import KafkaConnection, SecurityProtocol
from k2.operator.desired.pods import KAFKA_FOLDER
from k2.operator.observed import connections, diagnostics
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Observed, Pod, Rejection, Shard, Topic
from tests.unit.operator.conftest import NOW

EARLIER = NOW - timedelta(hours=1)
SINCE = NOW - timedelta(minutes=2)
BARELY = SINCE + timedelta(seconds=1)

RUNNING = Application("binance-bronze", EARLIER, "RUNNING", submitted_at=EARLIER, attempts=1)
UP = Deployment("binance-shard-0-0", 1, 1, current=True)
CONNECTED = Shard("0-0", connected=True)


def refused(resource, code=403, message="no", verb="patch"):
    return Observed(rejections=(Rejection(verb, resource, "binance-bronze", code, message),))


def with_topic(topic, **fields):
    return Observed(topics={"market.crypto.trades.binance": topic}, **fields)


@pytest.mark.parametrize(
    ("observed", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "creating KafkaTopic market"),
        (with_topic(Topic("t", EARLIER, True)), "True", "Ready", "binance exists"),
        (with_topic(Topic("t", EARLIER, False, "NotSupported", "fewer")), "False", "TopicNotReady", "NotSupported"),
        (with_topic(Topic("t", BARELY)), "Unknown", "Waiting", "waiting for Strimzi to reconcile"),
        (with_topic(Topic("t", SINCE)), "False", "NotReconciled", "set kafkaNamespace"),
        (with_topic(Topic("t", SINCE, changed=True)), "Unknown", "Waiting", "waiting for Strimzi to reconcile"),
        (with_topic(Topic("t", EARLIER, True), conflict="belongs to x"), "False", "TopicConflict", "belongs to x"),
        (refused("kafkatopics", 404), "False", "StrimziMissing", "install Strimzi"),
        (refused("kafkatopics"), "False", "Forbidden", "patch kafkatopics"),
        (refused("sparkapplications", 404), "Unknown", "Creating", "creating KafkaTopic market"),
    ],
)
def test_a_topic(feed, observed, status, reason, words):
    diagnosis = diagnostics.topic(feed(), observed, NOW, managed=True)
    assert (diagnosis.status, diagnosis.reason) == (status, reason)
    assert words in diagnosis.message


def test_an_unmanaged_topic_is_ready_unless_two_feeds_claim_it(feed):
    assert diagnostics.topic(feed(), Observed(), NOW, managed=False).reason == "NotManaged"
    assert diagnostics.topic(feed(), Observed(conflict="x"), NOW, managed=False).reason == "TopicConflict"


CRASHED = Pod("p", "CrashLoopBackOff", "bad feed", 4)
NO_SECRET = Pod("p", "CreateContainerConfigError", 'secret "k2-s3" not found', 0)
NO_KEY = replace(NO_SECRET, message="couldn't find key access-key in Secret feeds/k2-s3")
NO_PASSWORD = (
    "Kafka at kafka:9093: the password file of Kafka's client, /etc/k2-kafka/k2-ingest/password, cannot be read: "
    "No such file or directory"
)


def ingest(**changes):
    return replace(Observed(deployments=(UP,), shards=(CONNECTED,)), **changes)


@pytest.mark.parametrize(
    ("observed", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "creating Deployments"),
        (ingest(), "True", "Ready", "1 of 1 connected"),
        (ingest(shards=()), "True", "Ready", "1 of 1"),
        (ingest(deployments=(replace(UP, ready=0),)), "Unknown", "Starting", "0 of 1 pods"),
        (ingest(deployments=(replace(UP, current=False),)), "Unknown", "Starting", "1 of 1 pods"),
        (ingest(shards=(Shard("0-0", False, "no route"),)), "False", "NotConnected", "0 of 1 connected; no route"),
        (ingest(deployments=(UP, UP)), "False", "NotConnected", "1 of 2 connected"),
        (
            ingest(shards=(replace(CONNECTED, waiting=7),)),
            "False",
            "KafkaWriteFailed",
            "has not accepted 7 records; they are buffered",
        ),
        (ingest(shards=(Shard("0-0", False, "away", waiting=7),)), "False", "KafkaWriteFailed", "retried: away"),
        (
            ingest(deployments=(replace(UP, ready=0, trouble="pods is forbidden: exceeded quota: q"),)),
            "False",
            "QuotaExceeded",
            "exceeded quota: q",
        ),
        (ingest(deployments=(replace(UP, trouble="violates PodSecurity"),)), "False", "PodsNotRunning", "PodSecurity"),
        (
            ingest(pods=(CRASHED,)),
            "False",
            "CrashLoop",
            "p restarted 4 times; bad feed",
        ),
        (ingest(pods=(Pod("p", "ImagePullBackOff", "no such", 0),)), "False", "ImagePullFailed", "no such"),
        (ingest(pods=(Pod("p", "Unschedulable", "0/1 nodes", 0),)), "False", "Unschedulable", "0/1 nodes"),
        (
            ingest(pods=(Pod("p", "CreateContainerConfigError", "configmap x", 0),)),
            "False",
            "PodsNotRunning",
            "ConfigError: configmap x",
        ),
        (
            ingest(shards=(Shard("0-0", False, NO_PASSWORD),)),
            "False",
            "SecretNotFound",
            "create the Secret k2-ingest in the feed's namespace with the key password: Kafka at",
        ),
        (ingest(pods=(NO_SECRET, CRASHED)), "False", "SecretNotFound", "create the Secret k2-s3 in"),
        (
            ingest(pods=(NO_KEY,)),
            "False",
            "SecretNotFound",
            "create the Secret k2-s3 in the feed's namespace, or add the key",
        ),
        (ingest(pods=(Pod("p", "Evicted", "x", 0), CRASHED)), "False", "CrashLoop", "p restarted"),
        (ingest(pods=(replace(CRASHED, part="bronze"),)), "True", "Ready", "1 of 1 connected"),
        (
            ingest(shards=(replace(CONNECTED, refused=(("NOPE", "invalid"),)),)),
            "False",
            "SymbolsRejected",
            "the other symbols are not affected. NOPE: invalid",
        ),
        (
            ingest(shards=(replace(CONNECTED, silent=("BTCUSDT",)),)),
            "False",
            "SymbolsSilent",
            "being subscribed again. BTCUSDT",
        ),
        (
            ingest(shards=(replace(CONNECTED, clock_ahead=-4.6),)),
            "True",
            "Ready",
            "1 of 1 connected; the clock of shard 0-0 differs by -5 s from the exchange's",
        ),
        (refused("deployments"), "False", "Forbidden", "may not patch deployments binance-bronze"),
        (refused("deployments", 403, "exceeded quota: q"), "False", "QuotaExceeded", "q"),
        (refused("services", 409, "conflict"), "False", "ApplyFailed", "409 conflict"),
        (refused("podmonitors"), "False", "Forbidden", "podmonitors"),
        (replace(ingest(), rejections=refused("podmonitors", 404).rejections), "True", "Ready", ""),
        (replace(ingest(), rejections=refused("sparkapplications").rejections), "True", "Ready", ""),
    ],
)
def test_an_ingest(feed, observed, status, reason, words):
    diagnosis = connections.diagnose(feed(), observed)
    assert (diagnosis.status, diagnosis.reason) == (status, reason)
    assert words in diagnosis.message


def test_a_suspended_ingest_is_suspended_once_no_pod_is_left(feed):
    asleep = feed(suspend=True)
    assert connections.diagnose(asleep, ingest()).reason == "Stopping"
    assert connections.diagnose(asleep, Observed(deployments=(replace(UP, desired=0, ready=0),))).reason == "Suspended"


def test_a_thousand_rejected_symbols_make_a_short_message(feed):
    many = tuple((f"S{number}", "x" * 20) for number in range(1000))
    diagnosis = connections.diagnose(feed(), ingest(shards=(replace(CONNECTED, refused=many),)))
    assert "and 995 more" in diagnosis.message
    assert len(diagnosis.message) < 400


def layer(application=RUNNING, query="RUNNING", **changes):
    layers = {"bronze": Layer(query, "why")} if query else {}
    return replace(Observed(applications={"binance-bronze": application}, layers=layers), **changes)


def state(name, **changes):
    return replace(RUNNING, **({"state": name} | changes))


@pytest.mark.parametrize(
    ("observed", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "creating SparkApplication binance-bronze"),
        (layer(), "True", "Ready", "binance-bronze is running"),
        (layer(query=""), "Unknown", "Starting", "has not reported the state of bronze"),
        (layer(query="STARTING"), "Unknown", "Starting", "STARTING"),
        (layer(query="FAILED"), "False", "QueryFailed", "why"),
        (
            replace(layer(), layers={"bronze": Layer("WAITING", NO_PASSWORD.replace("ingest", "jobs"))}),
            "False",
            "SecretNotFound",
            "create the Secret k2-jobs in",
        ),
        (
            replace(layer(), layers={"bronze": Layer("FAILED", "/etc/k2-kafka/ca/ca.crt, is empty")}),
            "False",
            "SecretNotFound",
            "the Secret ca in the feed's namespace with the key ca.crt",
        ),
        (replace(layer(), layers={"bronze": Layer("RUNNING", NO_PASSWORD)}), "True", "Ready", "is running"),
        (layer(state("", created_at=BARELY)), "Unknown", "Waiting", "waiting for the Spark operator"),
        (layer(state("", created_at=SINCE)), "False", "NotReconciled", "spark.jobNamespaces"),
        (layer(state("SUBMITTED")), "Unknown", "Starting", "SUBMITTED"),
        (layer(state("PENDING_RERUN")), "Unknown", "Starting", "PENDING_RERUN"),
        (
            layer(state("PENDING_RERUN", message="the catalog: no")),
            "Unknown",
            "Starting",
            "RERUN after the catalog: no",
        ),
        (layer(state("FAILED", message="OOM", attempts=2)), "False", "CrashLoop", "FAILED after 2 attempts: OOM"),
        (layer(state("FAILING")), "False", "CrashLoop", "see its driver's log"),
        (layer(state("SUBMISSION_FAILED", message="no image")), "False", "CrashLoop", "no image"),
        (layer(state("RUNNING", attempts=3, submitted_at=SINCE)), "False", "CrashLoop", "RUNNING after 3 attempts"),
        (layer(state("PENDING_RERUN", attempts=3, submitted_at=SINCE)), "False", "CrashLoop", "3 attempts"),
        (layer(state("RUNNING", attempts=3)), "True", "Ready", "is running"),
        (layer(state("RUNNING", attempts=2, submitted_at=SINCE)), "True", "Ready", "is running"),
        (layer(state("A_NEW_STATE")), "Unknown", "Starting", "A_NEW_STATE"),
        (
            layer(state("PENDING_RERUN"), stuck=frozenset({"binance-bronze"})),
            "False",
            "PendingRerunStuck",
            "delete the SparkApplication",
        ),
        (layer(state("SUBMITTED"), pods=(replace(NO_SECRET, part="bronze"),)), "False", "SecretNotFound", "k2-s3"),
        (layer(pods=(replace(NO_SECRET, part="bronze-executor"),)), "False", "SecretNotFound", "k2-s3"),
        (layer(pods=(replace(NO_SECRET, part="silver"), NO_SECRET)), "True", "Ready", "is running"),
        (layer(state("FAILED"), pods=(replace(NO_SECRET, part="bronze"),)), "False", "CrashLoop", "FAILED"),
        (layer(rolled_back={"binance-bronze": "rolled back"}), "False", "RolledBack", "rolled back"),
        (layer(rolled_back={"binance-gold": "rolled back"}), "True", "Ready", "is running"),
        (refused("sparkapplications", 404), "False", "SparkOperatorMissing", "install the Spark operator"),
        (refused("sparkapplications", verb="create"), "False", "Forbidden", "may not create sparkapplications"),
        (replace(layer(), rejections=refused("services").rejections), "True", "Ready", "is running"),
    ],
)
def test_a_layer(feed, observed, status, reason, words):
    diagnosis = diagnostics.layer(feed(), observed, "bronze", "binance-bronze", NOW)
    assert (diagnosis.status, diagnosis.reason) == (status, reason)
    assert words in diagnosis.message


@pytest.mark.parametrize(
    ("submitted", "committed", "reason"),
    [
        (timedelta(seconds=61), timedelta(seconds=1), "Ready"),
        (timedelta(seconds=59), timedelta(seconds=1), "CrashLoop"),
        (timedelta(seconds=61), timedelta(seconds=62), "CrashLoop"),
        (timedelta(minutes=5), None, "Ready"),
    ],
)
def test_a_driver_that_commits_again_is_no_longer_in_a_crash_loop(feed, submitted, committed, reason):
    """Times are how long ago."""
    application = state("RUNNING", attempts=3, submitted_at=NOW - submitted)
    query = Layer("RUNNING", committed=(NOW - committed).isoformat() if committed else "")
    observed = replace(layer(application), layers={"bronze": query})
    assert diagnostics.layer(feed(), observed, "bronze", "binance-bronze", NOW).reason == reason


def test_a_failing_combined_driver_degrades_every_layer(feed):
    together = replace(RUNNING, name="binance-layers", state="SUBMITTED")
    observed = Observed(applications={"binance-layers": together}, pods=(replace(NO_SECRET, part="layers"),))
    assert diagnostics.layer(feed(), observed, "silver", "binance-layers", NOW).reason == "SecretNotFound"


def test_gold_is_not_ready_while_the_audit_has_findings(feed):
    gold = replace(RUNNING, name="binance-gold")
    observed = Observed(
        applications={"binance-gold": gold, "binance-bronze": RUNNING}, audit=Audit(2, "2026-03-02T10:00:00+00:00")
    )
    observed = replace(observed, layers={"gold": Layer("RUNNING"), "bronze": Layer("RUNNING")})
    diagnosis = diagnostics.layer(feed(), observed, "gold", "binance-gold", NOW)
    assert (diagnosis.status, diagnosis.reason) == ("False", "AuditFindings")
    assert "trades are missing from 2 hours of the last 7 days" in diagnosis.message
    assert diagnostics.layer(feed(), observed, "bronze", "binance-bronze", NOW).reason == "Ready"
    clean = replace(observed, audit=Audit(0, "2026-03-02T10:00:00+00:00"))
    assert diagnostics.layer(feed(), clean, "gold", "binance-gold", NOW).reason == "Ready"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("RUNNING", "Stopping"), ("SUSPENDING", "Stopping"), ("SUSPENDED", "Suspended"), ("", "Suspended")],
)
def test_a_suspended_layer_is_suspended_once_its_driver_is_gone(feed, name, reason):
    observed = layer(state(name, created_at=EARLIER))
    assert diagnostics.layer(feed(suspend=True), observed, "bronze", "binance-bronze", NOW).reason == reason


def test_a_selector_that_matches_nothing_needs_another_selector(feed):
    observed = Observed(deployments=(UP,), shards=(replace(CONNECTED, connected=False, matching=0),))
    diagnosis = connections.diagnose(feed(), observed)
    assert (diagnosis.status, diagnosis.reason) == ("False", "SelectorMatchesNothing")
    assert diagnosis.message.startswith("0 of the instruments that trade on the exchange match spec.symbolSelector")


def test_halted_symbols_are_named_and_keep_the_feed_ready(feed):
    observed = Observed(deployments=(UP,), shards=(replace(CONNECTED, halted=("ETHUSDT",)),))
    diagnosis = connections.diagnose(feed(), observed)
    assert (diagnosis.status, diagnosis.reason) == ("True", "SymbolsHalted")
    assert diagnosis.message.endswith("the exchange has halted 1 symbols, which go on when it does: ETHUSDT")


def test_symbols_beyond_the_most_are_named_and_counted(feed):
    left_out = ("SOLUSDT", "XRPUSDT")
    observed = Observed(deployments=(UP,), shards=(replace(CONNECTED, matching=4, left_out=left_out),))
    diagnosis = connections.diagnose(feed(), observed)
    assert (diagnosis.status, diagnosis.reason) == ("True", "SymbolsLeftOut")
    assert diagnosis.message == (
        "1 of 1 connected; 2 symbols beyond spec.symbolSelector.maxSymbols are left out: SOLUSDT; XRPUSDT"
    )


@pytest.mark.parametrize("key", ["password", "ca.crt"])
def test_what_a_client_says_of_a_missing_file_names_the_secret(feed, key):
    connection = KafkaConnection(
        "kafka:9093",
        SecurityProtocol.SASL_SSL,
        ca_file=f"{KAFKA_FOLDER}/ca/ca.crt" if key == "ca.crt" else __file__,
        username="k2-ingest",
        password_file=f"{KAFKA_FOLDER}/k2-ingest/password",
    )
    with pytest.raises(KafkaException) as failed:
        connection.client()
    message = f"Kafka at kafka:9093: {failed.value.args[0].str()}"
    diagnosis = connections.diagnose(feed(), ingest(shards=(Shard("0-0", False, message),)))
    assert diagnosis.reason == "SecretNotFound"
    secret = "ca" if key == "ca.crt" else "k2-ingest"
    assert f"create the Secret {secret} in the feed's namespace with the key {key}: " in diagnosis.message


def test_shards_that_are_being_added_leave_the_others_ready(feed):
    own = feed(symbols=[f"COIN{number}USDT" for number in range(20)])
    up = Deployment("binance-shard-0-0", 1, 1, current=True)
    arriving = Deployment("binance-shard-1-0", 1, 0, current=True)
    reports = (
        replace(CONNECTED, pod="binance-shard-0-0-6d4c-x2x9z"),
        Shard("1-0", False, "no route", pod="binance-shard-1-0-6d4c-x2x9z"),
    )
    observed = Observed(deployments=(up, arriving), shards=reports, counts=(1, 2))
    assert connections.diagnose(own, observed).status == "True"
    assert connections.diagnose(own, replace(observed, counts=(2,))).status == "False"
    assert connections.diagnose(own, replace(observed, counts=(2, 1))).status == "False"
