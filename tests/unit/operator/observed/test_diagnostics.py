"""What is said of each part: one row a situation, with the word that a person looks up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from k2.operator.observed import diagnostics
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Observed, Pod, Refusal, Shard, Topic
from tests.unit.operator.conftest import NOW

EARLIER = NOW - timedelta(hours=1)
SINCE = NOW - timedelta(minutes=2)
BARELY = SINCE + timedelta(seconds=1)

RUNNING = Application("binance-bronze", EARLIER, "RUNNING", submitted_at=EARLIER, attempts=1)
UP = Deployment("binance-ingest-0-0", 1, 1, current=True)
CONNECTED = Shard("0-0", connected=True)


def refused(resource, code=403, message="no", verb="patch"):
    return Observed(refusals=(Refusal(verb, resource, "binance-bronze", code, message),))


@pytest.mark.parametrize(
    ("seen", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "is being made"),
        (Observed(topic=Topic("t", EARLIER, True)), "True", "Ready", "is there"),
        (Observed(topic=Topic("t", EARLIER, False, "NotSupported", "fewer")), "False", "TopicNotReady", "NotSupported"),
        (Observed(topic=Topic("t", BARELY)), "Unknown", "Waiting", "nothing"),
        (Observed(topic=Topic("t", SINCE)), "False", "NotPickedUp", "set kafkaNamespace"),
        (Observed(topic=Topic("t", SINCE, changed=True)), "Unknown", "Waiting", "nothing"),
        (Observed(topic=Topic("t", EARLIER, True), conflict="belongs to x"), "False", "TopicConflict", "belongs to x"),
        (refused("kafkatopics", 404), "False", "StrimziMissing", "install Strimzi"),
        (refused("kafkatopics"), "False", "Forbidden", "patch kafkatopics"),
        (refused("sparkapplications", 404), "Unknown", "Creating", "is being made"),
    ],
)
def test_a_topic(feed, seen, status, reason, words):
    found = diagnostics.topic(feed(), seen, NOW, managed=True)
    assert (found.status, found.reason) == (status, reason)
    assert words in found.message


def test_a_topic_that_k2_does_not_make_is_nobodys_trouble_unless_two_feeds_claim_it(feed):
    assert diagnostics.topic(feed(), Observed(), NOW, managed=False).reason == "NotManaged"
    assert diagnostics.topic(feed(), Observed(conflict="x"), NOW, managed=False).reason == "TopicConflict"


CRASHED = Pod("p", "CrashLoopBackOff", "bad feed", 4)
NO_SECRET = Pod("p", "CreateContainerConfigError", 'secret "k2-s3" not found', 0)
NO_KEY = replace(NO_SECRET, message="couldn't find key access-key in Secret feeds/k2-s3")


def ingest(**changes):
    return replace(Observed(deployments=(UP,), shards=(CONNECTED,)), **changes)


@pytest.mark.parametrize(
    ("seen", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "being made"),
        (ingest(), "True", "Ready", "1 of 1 connected"),
        (ingest(shards=()), "True", "Ready", "1 of 1"),
        (ingest(deployments=(replace(UP, ready=0),)), "Unknown", "Starting", "0 of 1 pods"),
        (ingest(deployments=(replace(UP, current=False),)), "Unknown", "Starting", "1 of 1 pods"),
        (ingest(shards=(Shard("0-0", False, "no route"),)), "False", "NotConnected", "0 of 1 connected; no route"),
        (ingest(deployments=(UP, UP)), "False", "NotConnected", "1 of 2 connected"),
        (
            ingest(shards=(replace(CONNECTED, waiting=7),)),
            "False",
            "KafkaRefuses",
            "does not take 7 records; they are kept",
        ),
        (ingest(shards=(Shard("0-0", False, "away", waiting=7),)), "False", "KafkaRefuses", "sent again: away"),
        (
            ingest(deployments=(replace(UP, ready=0, trouble="pods is forbidden: exceeded quota: q"),)),
            "False",
            "QuotaExceeded",
            "exceeded quota: q",
        ),
        (ingest(deployments=(replace(UP, trouble="violates PodSecurity"),)), "False", "PodsRefused", "PodSecurity"),
        (
            ingest(pods=(CRASHED,)),
            "False",
            "CrashLoop",
            "p ended 4 times; bad feed",
        ),
        (ingest(pods=(Pod("p", "ImagePullBackOff", "no such", 0),)), "False", "ImagePullFailed", "no such"),
        (ingest(pods=(Pod("p", "Unschedulable", "0/1 nodes", 0),)), "False", "Unschedulable", "0/1 nodes"),
        (
            ingest(pods=(Pod("p", "CreateContainerConfigError", "configmap x", 0),)),
            "False",
            "PodsRefused",
            "ConfigError: configmap x",
        ),
        (ingest(pods=(NO_SECRET, CRASHED)), "False", "SecretNotFound", "make the Secret k2-s3, or"),
        (ingest(pods=(NO_KEY,)), "False", "SecretNotFound", "make the Secret k2-s3, or add the key"),
        (ingest(pods=(Pod("p", "Evicted", "x", 0), CRASHED)), "False", "CrashLoop", "p ended"),
        (ingest(pods=(replace(CRASHED, part="bronze"),)), "True", "Ready", "1 of 1 connected"),
        (
            ingest(shards=(replace(CONNECTED, refused=(("NOPE", "invalid"),)),)),
            "False",
            "SymbolsRefused",
            "the others flow. NOPE: invalid",
        ),
        (refused("deployments"), "False", "Forbidden", "may not patch deployments binance-bronze"),
        (refused("deployments", 403, "exceeded quota: q"), "False", "QuotaExceeded", "q"),
        (refused("services", 409, "conflict"), "False", "ApplyFailed", "409 conflict"),
        (refused("podmonitors"), "False", "Forbidden", "podmonitors"),
        (replace(ingest(), refusals=refused("podmonitors", 404).refusals), "True", "Ready", ""),
        (replace(ingest(), refusals=refused("sparkapplications").refusals), "True", "Ready", ""),
    ],
)
def test_an_ingest(feed, seen, status, reason, words):
    found = diagnostics.ingest(feed(), seen)
    assert (found.status, found.reason) == (status, reason)
    assert words in found.message


def test_a_suspended_ingest_is_suspended_once_no_pod_is_left(feed):
    asleep = feed(suspend=True)
    assert diagnostics.ingest(asleep, ingest()).reason == "Stopping"
    assert diagnostics.ingest(asleep, Observed(deployments=(replace(UP, wanted=0, ready=0),))).reason == "Suspended"


def test_a_thousand_refused_symbols_make_a_short_message(feed):
    many = tuple((f"S{number}", "x" * 20) for number in range(1000))
    found = diagnostics.ingest(feed(), ingest(shards=(replace(CONNECTED, refused=many),)))
    assert "and 995 more" in found.message
    assert len(found.message) < 400


def layer(application=RUNNING, query="RUNNING", **changes):
    layers = {"bronze": Layer(query, "why")} if query else {}
    return replace(Observed(applications={"binance-bronze": application}, layers=layers), **changes)


def state(name, **changes):
    return replace(RUNNING, **({"state": name} | changes))


@pytest.mark.parametrize(
    ("seen", "status", "reason", "words"),
    [
        (Observed(), "Unknown", "Creating", "binance-bronze is being made"),
        (layer(), "True", "Ready", "binance-bronze runs"),
        (layer(query=""), "Unknown", "Starting", "said nothing of bronze"),
        (layer(query="STARTING"), "Unknown", "Starting", "STARTING"),
        (layer(query="FAILED"), "False", "QueryFailed", "why"),
        (layer(state("", created_at=BARELY)), "Unknown", "Waiting", "yet"),
        (layer(state("", created_at=SINCE)), "False", "NotPickedUp", "spark.jobNamespaces"),
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
        (layer(state("RUNNING", attempts=3)), "True", "Ready", "runs"),
        (layer(state("RUNNING", attempts=2, submitted_at=SINCE)), "True", "Ready", "runs"),
        (layer(state("A_NEW_STATE")), "Unknown", "Starting", "A_NEW_STATE"),
        (
            layer(state("PENDING_RERUN"), stuck=frozenset({"binance-bronze"})),
            "False",
            "PendingRerunStuck",
            "delete the SparkApplication",
        ),
        (layer(state("SUBMITTED"), pods=(replace(NO_SECRET, part="bronze"),)), "False", "SecretNotFound", "k2-s3"),
        (layer(pods=(replace(NO_SECRET, part="bronze-executor"),)), "False", "SecretNotFound", "k2-s3"),
        (layer(pods=(replace(NO_SECRET, part="silver"), NO_SECRET)), "True", "Ready", "runs"),
        (layer(state("FAILED"), pods=(replace(NO_SECRET, part="bronze"),)), "False", "CrashLoop", "FAILED"),
        (layer(rolled_back={"binance-bronze": "taken back"}), "False", "RolledBack", "taken back"),
        (layer(rolled_back={"binance-gold": "taken back"}), "True", "Ready", "runs"),
        (refused("sparkapplications", 404), "False", "SparkOperatorMissing", "install the Spark operator"),
        (refused("sparkapplications", verb="create"), "False", "Forbidden", "may not create sparkapplications"),
        (replace(layer(), refusals=refused("services").refusals), "True", "Ready", "runs"),
    ],
)
def test_a_layer(feed, seen, status, reason, words):
    found = diagnostics.layer(feed(), seen, "bronze", "binance-bronze", NOW)
    assert (found.status, found.reason) == (status, reason)
    assert words in found.message


@pytest.mark.parametrize(
    ("submitted", "committed", "reason"),
    [
        (timedelta(seconds=61), timedelta(seconds=1), "Ready"),
        (timedelta(seconds=59), timedelta(seconds=1), "CrashLoop"),
        (timedelta(seconds=61), timedelta(seconds=62), "CrashLoop"),
        (timedelta(minutes=5), None, "Ready"),
    ],
)
def test_a_driver_that_commits_again_is_not_in_a_crash_loop_any_more(feed, submitted, committed, reason):
    """Times are how long ago."""
    application = state("RUNNING", attempts=3, submitted_at=NOW - submitted)
    told = Layer("RUNNING", committed=(NOW - committed).isoformat() if committed else "")
    seen = replace(layer(application), layers={"bronze": told})
    assert diagnostics.layer(feed(), seen, "bronze", "binance-bronze", NOW).reason == reason


def test_the_driver_of_all_layers_is_the_trouble_of_each(feed):
    together = replace(RUNNING, name="binance-layers", state="SUBMITTED")
    seen = Observed(applications={"binance-layers": together}, pods=(replace(NO_SECRET, part="layers"),))
    assert diagnostics.layer(feed(), seen, "silver", "binance-layers", NOW).reason == "SecretNotFound"


def test_gold_is_not_ready_while_the_audit_has_findings(feed):
    gold = replace(RUNNING, name="binance-gold")
    seen = Observed(
        applications={"binance-gold": gold, "binance-bronze": RUNNING}, audit=Audit(2, "2026-03-02T10:00:00+00:00")
    )
    seen = replace(seen, layers={"gold": Layer("RUNNING"), "bronze": Layer("RUNNING")})
    found = diagnostics.layer(feed(), seen, "gold", "binance-gold", NOW)
    assert (found.status, found.reason) == ("False", "AuditFindings")
    assert "2 hours of the last 7 days lack trades" in found.message
    assert diagnostics.layer(feed(), seen, "bronze", "binance-bronze", NOW).reason == "Ready"
    clean = replace(seen, audit=Audit(0, "2026-03-02T10:00:00+00:00"))
    assert diagnostics.layer(feed(), clean, "gold", "binance-gold", NOW).reason == "Ready"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("RUNNING", "Stopping"), ("SUSPENDING", "Stopping"), ("SUSPENDED", "Suspended"), ("", "Suspended")],
)
def test_a_suspended_layer_is_suspended_once_its_driver_is_gone(feed, name, reason):
    seen = layer(state(name, created_at=EARLIER))
    assert diagnostics.layer(feed(suspend=True), seen, "bronze", "binance-bronze", NOW).reason == reason
