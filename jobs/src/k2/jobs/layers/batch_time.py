"""The time of a micro-batch, as a column."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom


def now() -> Column:
    """The time at which the batch was planned, the same in each of its rows.

    Spark writes a literal timestamp into the code that it generates, so it would compile the code of each batch anew
    and run it cold. Of an array it keeps a reference beside the code, which it then finds in its cache. The index must
    not be a literal either, or the optimiser takes the timestamp out of the array again.
    """
    first = F.spark_partition_id().bitwiseAND(F.lit(0))
    return F.get(F.array(F.current_timestamp()), first)
