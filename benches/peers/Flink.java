import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * W1 by Flink SQL, in this process, on two lanes: {@code Flink INPUT OUTPUT REACH}, where REACH is
 * {@code reach} for the count of distinct users too.
 */
public final class Flink {
    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", "2");
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("table.local-time-zone", "UTC");
        TableEnvironment tables =
                TableEnvironment.create(
                        EnvironmentSettings.newInstance()
                                .inStreamingMode()
                                .withConfiguration(settings)
                                .build());
        boolean reach = arguments[2].equals("reach");
        // The file is read in pieces, side by side: the watermark must wait for all of them.
        tables.executeSql(
                "CREATE TABLE events ("
                        + (reach ? "user_id STRING, " : "")
                        + "event_type STRING, campaign_id STRING, amount DECIMAL(18, 2),"
                        + " occurred_at BIGINT, ts AS TO_TIMESTAMP_LTZ(occurred_at, 3),"
                        + " WATERMARK FOR ts AS ts - INTERVAL '1' DAY)"
                        + " WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'file://"
                        + arguments[0]
                        + "')");
        tables.executeSql(
                "CREATE TABLE metrics (window_start BIGINT, campaign_id STRING, events BIGINT,"
                        + " impressions BIGINT, clicks BIGINT, revenue DECIMAL(38, 2)"
                        + (reach ? ", reach BIGINT" : "")
                        + ") WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = 'file://"
                        + arguments[1]
                        + "')");
        tables.executeSql(
                        "INSERT INTO metrics SELECT UNIX_TIMESTAMP(CAST(window_start AS STRING)),"
                                + " campaign_id, count(*),"
                                + " count(*) FILTER (WHERE event_type = 'impression'),"
                                + " count(*) FILTER (WHERE event_type = 'click'),"
                                + " sum(amount) FILTER (WHERE event_type = 'purchase')"
                                + (reach ? ", count(DISTINCT user_id)" : "")
                                + " FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))"
                                + " GROUP BY window_start, window_end, campaign_id")
                .await();
    }
}
