"""Spark configuration that only a cluster needs; the rest is in `k2.jobs.spark.session`. Contains no secrets."""

from typing import Final

from k2.operator.desired import trust
from k2.operator.desired.sizes import Sizes
from k2.operator.settings import Settings

# A driver's Spark conf directory is mounted from a ConfigMap, so the image cannot add its log4j file to it.
_LOGGING: Final = "-Dlog4j2.configurationFile=file:///opt/k2/log4j2.properties"


def spark_conf(settings: Settings, size: Sizes) -> dict[str, str]:
    """Return the configuration, sorted by name. What K2 requires overrides the setting `sparkConf`.

    Options of the JVM in that setting follow K2's own, so that they win.
    """
    trusted = trust.JAVA_OPTIONS if trust.is_needed_by_executors(settings) else ""
    options = {"spark.driver.extraJavaOptions": "", "spark.executor.extraJavaOptions": trusted}
    conf = (
        settings.spark_conf
        | {
            name: " ".join(filter(None, (_LOGGING, own, settings.spark_conf.get(name))))
            for name, own in options.items()
        }
        | {
            "spark.dynamicAllocation.enabled": "false",  # it does not work with micro-batches
            "spark.kubernetes.driver.podTemplateContainerName": "spark-kubernetes-driver",
            "spark.kubernetes.executor.podTemplateContainerName": "spark-kubernetes-executor",
        }
    )
    if not size.executors:
        conf["spark.kubernetes.driver.master"] = f"local[{size.driver.cores}]"
    return dict(sorted(conf.items()))
