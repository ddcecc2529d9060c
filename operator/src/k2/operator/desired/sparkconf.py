"""Spark settings that only a cluster needs; the rest is in `k2.jobs.spark.session`. Holds no secret."""

from typing import Final

from k2.operator.desired.sizes import Sizes
from k2.operator.settings import Settings

# In a driver Spark's folder of settings is a ConfigMap's, so the image cannot put its own into it.
_LOGGING: Final = dict.fromkeys(
    ("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions"),
    "-Dlog4j2.configurationFile=file:///opt/k2/log4j2.properties",
)


def spark_conf(settings: Settings, size: Sizes) -> dict[str, str]:
    """The settings, sorted by name. What K2 needs wins over what the platform adds."""
    found = (
        _LOGGING
        | settings.spark_conf
        | {
            "spark.dynamicAllocation.enabled": "false",  # it fights micro-batches
            "spark.kubernetes.driver.podTemplateContainerName": "spark-kubernetes-driver",
            "spark.kubernetes.executor.podTemplateContainerName": "spark-kubernetes-executor",
        }
    )
    if not size.executors:
        found["spark.kubernetes.driver.master"] = f"local[{size.driver.cores}]"
    return dict(sorted(found.items()))
