"""The options of every JVM that a test starts, in the variable `JDK_JAVA_OPTIONS`."""

# C1 only: a test's JVM ends before C2's code is worth what compiling it takes.
# Alone C1 gets 48 MB for code, which Spark fills in minutes with five feeds, and then compiles nothing more.
COMPILED = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
# Spark interprets expressions: a test's few rows cost less than compiling classes for them.
INTERPRETED = f"{COMPILED} -Dspark.sql.codegen.wholeStage=false -Dspark.sql.codegen.factoryMode=NO_CODEGEN"
