// pgjdbc: statements in each of its modes, fetch sizes, batches, COPY, large objects by FunctionCall, XA, metadata.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;
import org.postgresql.xa.PGXADataSource;

public class ByJdbc {
  private static final long LARGE_OBJECT = 4444; // its oid, chosen, so that it is the same in every run

  /** Report a result: it must be the same on every way to the server. */
  private static void say(String what, Object value) {
    System.out.println(what + ": " + value);
  }

  private static String url(String options) {
    var found = System.getenv();
    return "jdbc:postgresql://" + found.get("PGHOST") + ":" + found.get("PGPORT") + "/" + found.get("PGDATABASE")
        + "?user=" + found.get("PGUSER") + found.getOrDefault("DRV_JDBC", "") + options;
  }

  private static Connection connect(String options) throws SQLException {
    String password = System.getenv("PGPASSWORD");
    return DriverManager.getConnection(url(options), null == password ? new java.util.Properties() : with(password));
  }

  private static java.util.Properties with(String password) {
    var properties = new java.util.Properties();
    properties.setProperty("password", password);
    return properties;
  }

  private static List<String> rows(ResultSet result) throws SQLException {
    List<String> found = new ArrayList<>();
    while (result.next()) {
      StringBuilder row = new StringBuilder();
      for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
        boolean octets = result.getMetaData().getColumnType(column) == Types.BINARY;
        row.append(column > 1 ? "|" : "");
        row.append(octets ? Arrays.toString(result.getBytes(column)) : result.getString(column));
      }
      found.add(row.toString());
    }
    return found;
  }

  private static void fails(Connection connection, String text) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(text);
      throw new AssertionError(text);
    } catch (PSQLException error) {
      ServerErrorMessage said = error.getServerErrorMessage();
      say("error", Arrays.asList(said.getSeverity(), said.getSQLState(), said.getMessage(), said.getDetail(),
          said.getHint(), said.getPosition(), said.getInternalPosition(), said.getInternalQuery(), said.getWhere(),
          said.getSchema(), said.getTable(), said.getColumn(), said.getDatatype(), said.getConstraint(),
          said.getRoutine()));
    }
  }

  private static void statements(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("truncate drv_sink, drv_orders restart identity");
      say("people", rows(statement.executeQuery("select * from drv_people where id <= 5 order by id")));
      boolean more = statement.execute("select 1; insert into drv_sink values (1), (2); select 2, 'x'; select 3 where false");
      List<String> several = new ArrayList<>();
      while (more || statement.getUpdateCount() >= 0) {
        several.add(more ? rows(statement.getResultSet()).toString() : String.valueOf(statement.getUpdateCount()));
        more = statement.getMoreResults();
      }
      say("several", several);
      statement.setMaxRows(7);
      say("at most seven", rows(statement.executeQuery("select id from drv_people order by id")).size());
      statement.setMaxRows(0);
      say("plan", rows(statement.executeQuery("explain (costs off) select * from drv_view")));
    }
    try (PreparedStatement statement = connection.prepareStatement("select * from drv_people where id = ?")) {
      for (int id = 1; id <= 9; id++) { // from the fifth time on it has a name, and its results come in binary
        statement.setInt(1, id);
        say("prepared", rows(statement.executeQuery()));
      }
    }
    String insert = "insert into drv_sink (a, b) values (?, ?)";
    try (PreparedStatement statement = connection.prepareStatement(insert, new String[] {"a"})) {
      statement.setInt(1, 70);
      statement.setString(2, null);
      statement.executeUpdate();
      say("generated", rows(statement.getGeneratedKeys()));
    }
    try (PreparedStatement statement = connection.prepareStatement("update drv_sink set b = ? returning a, b")) {
      statement.setString(1, "new");
      say("returned", rows(statement.executeQuery()));
    }
    try (Statement statement = connection.createStatement()) {
      statement.executeQuery("select drv_noisy(3)").next();
      for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
        say("warning", warning.getSQLState() + " " + warning.getMessage());
      }
    }
    for (String text : List.of("select drv_fails()", "select drv_fails_inside()", "select nothing from drv_people",
        "selec", "insert into drv_people (id, name) values (1, '')", "insert into drv_orders (person) values (-1)")) {
      fails(connection, text);
    }
  }

  private static void portions(Connection connection) throws SQLException {
    connection.setAutoCommit(false);
    String text = "select id, name from drv_people where id <= 10 order by id";
    for (int size : new int[] {1, 3, 5, 10, 11}) {
      try (PreparedStatement statement = connection.prepareStatement(text)) {
        statement.setFetchSize(size);
        say("portions of " + size, rows(statement.executeQuery()).size());
      }
    }
    try (Statement statement = connection.createStatement(); Statement other = connection.createStatement()) {
      statement.setFetchSize(7);
      ResultSet slow = statement.executeQuery("select id from drv_people order by id");
      for (int n = 0; n < 30 && slow.next(); n++) { // another statement between the portions of an open portal
        say("between", rows(other.executeQuery("select " + slow.getInt(1))));
      }
      slow.close();
    }
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(4);
      int seen = 0;
      try {
        ResultSet failing = statement.executeQuery("select 1 / (20 - id) from drv_people order by id");
        while (failing.next()) {
          seen++;
        }
      } catch (SQLException error) {
        say("after portions", seen + " " + error.getSQLState());
      }
    }
    connection.rollback();
    try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
      ResultSet result = statement.executeQuery("select id, name from drv_people where id <= 3");
      result.last();
      result.updateString(2, "renamed");
      result.updateRow();
      result.absolute(1);
      say("scrolled", result.getString(2));
    }
    Savepoint savepoint = connection.setSavepoint("drv");
    fails(connection, "select 1/0");
    connection.rollback(savepoint);
    connection.rollback();
    connection.setAutoCommit(true);
  }

  private static void batches(Connection connection) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("insert into drv_sink (a, b) values (?, ?)")) {
      for (int n = 0; n < 300; n++) {
        statement.setInt(1, n);
        statement.setString(2, "batch");
        statement.addBatch();
      }
      say("batch", Arrays.stream(statement.executeBatch()).distinct().boxed().toList());
    }
    String insert = "insert into drv_orders (person, note) values (?, ?)";
    try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
      for (int n = 1; n <= 20; n++) {
        statement.setInt(1, n);
        statement.setString(2, "note " + n);
        statement.addBatch();
      }
      statement.executeBatch();
      say("keys", rows(statement.getGeneratedKeys()).size());
    }
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("delete from drv_sink where a = 5");
      statement.addBatch("select 1/0");
      statement.addBatch("delete from drv_sink");
      statement.executeBatch();
      throw new AssertionError("the batch did not fail");
    } catch (java.sql.BatchUpdateException error) {
      say("failed batch", Arrays.toString(error.getUpdateCounts()) + " " + error.getSQLState());
    }
    try (Statement statement = connection.createStatement()) {
      say("left", rows(statement.executeQuery("select count(*), max(a) from drv_sink")));
    }
  }

  private static void routines(Connection connection) throws SQLException {
    try (CallableStatement call = connection.prepareCall("call drv_doubles(?)")) {
      call.setInt(1, 21);
      call.registerOutParameter(1, Types.INTEGER);
      call.execute();
      say("doubled", call.getInt(1));
    }
  }

  private static void cursors(Connection connection) throws SQLException {
    connection.setAutoCommit(false);
    try (CallableStatement call = connection.prepareCall("{call drv_cursors(?, ?)}")) {
      call.registerOutParameter(1, Types.REF_CURSOR);
      call.registerOutParameter(2, Types.REF_CURSOR);
      call.execute();
      say("cursors", rows((ResultSet) call.getObject(1)) + " " + rows((ResultSet) call.getObject(2)));
    }
    connection.commit();
    connection.setAutoCommit(true);
  }

  private static void copies(Connection connection) throws Exception {
    CopyManager copier = connection.unwrap(PGConnection.class).getCopyAPI();
    for (String form : List.of("text", "csv", "binary")) {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      long rows = copier.copyOut("copy (select id, name from drv_people order by id) to stdout (format " + form + ")", out);
      try (Statement statement = connection.createStatement()) {
        statement.execute("truncate drv_sink");
      }
      long back = copier.copyIn("copy drv_sink from stdin (format " + form + ")", new ByteArrayInputStream(out.toByteArray()), 777);
      say("copied", form + " " + out.size() + " " + rows + " " + back);
    }
    try {
      copier.copyIn("copy drv_sink from stdin", new ByteArrayInputStream("x\ty\n".getBytes(StandardCharsets.UTF_8)));
      throw new AssertionError("the copy did not fail");
    } catch (SQLException error) {
      say("refused", error.getSQLState());
    }
    fails(connection, "select 1/0");
  }

  private static void largeObjects(Connection connection) throws Exception {
    connection.setAutoCommit(false);
    LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
    try (Statement statement = connection.createStatement()) {
      statement.executeQuery("select lo_create(" + LARGE_OBJECT + ")").next();
    }
    byte[] data = new byte[200_000];
    for (int n = 0; n < data.length; n++) {
      data[n] = (byte) n;
    }
    try (LargeObject object = manager.open(LARGE_OBJECT, LargeObjectManager.READWRITE)) {
      object.write(data);
      object.seek64(1000, LargeObject.SEEK_SET);
      say("at", object.tell64() + " of " + object.size64());
      byte[] read = object.read(150_000);
      say("read", Arrays.equals(read, Arrays.copyOfRange(data, 1000, 151_000)));
      object.truncate64(10);
    }
    manager.delete(LARGE_OBJECT);
    connection.commit();
    try {
      manager.open(LARGE_OBJECT, LargeObjectManager.READ);
      throw new AssertionError("the object is still there");
    } catch (SQLException error) {
      say("gone", error.getSQLState());
    }
    connection.rollback();
    connection.setAutoCommit(true);
  }

  private static void notifications(Connection connection) throws SQLException {
    try (Connection speaker = connect(""); Statement listen = connection.createStatement();
        Statement speak = speaker.createStatement()) {
      listen.execute("listen drv_news");
      speak.execute("notify drv_news, 'payload'");
      for (PGNotification one : connection.unwrap(PGConnection.class).getNotifications(20_000)) {
        int speaking = speaker.unwrap(PGConnection.class).getBackendPID();
        say("heard", one.getName() + " " + one.getParameter() + " " + (one.getPID() == speaking));
      }
    }
  }

  private static void cancelled(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      new Thread(() -> {
        try {
          while (statement.getWarnings() == null) { // it can be cancelled once it has said that it sleeps
            Thread.sleep(20);
          }
          statement.cancel();
        } catch (SQLException | InterruptedException error) {
          throw new IllegalStateException(error);
        }
      }).start();
      statement.execute("do $$ begin raise notice 'asleep'; perform pg_sleep(60); end $$");
      throw new AssertionError("the statement was not cancelled");
    } catch (SQLException error) {
      say("cancelled", error.getSQLState());
    }
    try (Statement statement = connection.createStatement()) {
      say("goes on", rows(statement.executeQuery("select 42")));
    }
  }

  private record Transaction(String name) implements Xid {
    @Override
    public int getFormatId() {
      return 1;
    }

    @Override
    public byte[] getGlobalTransactionId() {
      return name.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public byte[] getBranchQualifier() {
      return "drv".getBytes(StandardCharsets.UTF_8);
    }
  }

  private static void twoPhases() throws Exception {
    PGXADataSource source = new PGXADataSource();
    source.setUrl(url(""));
    source.setPassword(System.getenv("PGPASSWORD"));
    var session = source.getXAConnection();
    XAResource resource = session.getXAResource();
    try (Connection connection = session.getConnection(); Statement statement = connection.createStatement()) {
      for (boolean commit : new boolean[] {true, false}) {
        Xid xid = new Transaction("commit " + commit);
        resource.start(xid, XAResource.TMNOFLAGS);
        statement.execute("insert into drv_sink values (900)");
        resource.end(xid, XAResource.TMSUCCESS);
        say("prepared", resource.prepare(xid) == XAResource.XA_OK);
        say("in doubt", resource.recover(XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN).length);
        if (commit) {
          resource.commit(xid, false);
        } else {
          resource.rollback(xid);
        }
      }
      say("committed", rows(statement.executeQuery("select count(*) from drv_sink where a = 900")));
    }
    session.close();
  }

  private static void metadata(Connection connection) throws SQLException {
    var metadata = connection.getMetaData();
    say("columns", rows(metadata.getColumns(null, "public", "drv_orders", null)).size());
    say("keys", rows(metadata.getImportedKeys(null, "public", "drv_orders")).size());
    say("primary", rows(metadata.getPrimaryKeys(null, "public", "drv_people")));
  }

  public static void main(String[] arguments) throws Exception {
    for (String options : List.of("", "&preferQueryMode=simple",
        "&preferQueryMode=extendedCacheEverything&reWriteBatchedInserts=true&binaryTransfer=true",
        "&prepareThreshold=1&adaptiveFetch=true&defaultRowFetchSize=10")) {
      say("options", options);
      try (Connection connection = connect(options + "&ApplicationName=drv")) {
        statements(connection);
        portions(connection);
        batches(connection);
        routines(connection);
        if (!options.contains("simple")) { // which sends out parameters as words without a type
          cursors(connection);
        }
        copies(connection);
      }
    }
    try (Connection connection = connect("")) {
      largeObjects(connection);
      notifications(connection);
      cancelled(connection);
      metadata(connection);
    }
    twoPhases();
  }
}
