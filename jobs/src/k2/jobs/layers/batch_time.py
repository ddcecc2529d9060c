"""The planning time of a micro-batch, as a column."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom


def now() -> Column:
    """Return the time at which the batch was planned, the same in each of its rows.

    Spark inlines a literal timestamp into its generated code, so it would compile and warm up the code of every batch.
    An array is passed by reference, so the compiled code is found in Spark's cache. The index must not be a literal
    either, or the optimiser takes the timestamp out of the array again.
    """
    first = F.spark_partition_id().bitwiseAND(F.lit(0))
    return F.get(F.array(F.current_timestamp()), first)
