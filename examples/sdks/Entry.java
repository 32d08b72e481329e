// One entry of a URL map, with aliyun-sdk-oss.
import com.aliyun.oss.*;
import com.aliyun.oss.common.auth.CredentialsProviderFactory;
import com.aliyun.oss.common.comm.SignVersion;
import com.aliyun.oss.model.GeneratePresignedUrlRequest;
import java.util.*;

public class Entry {
    public static void main(String[] args) throws Exception {
        ClientBuilderConfiguration configuration = new ClientBuilderConfiguration();
        configuration.setSignatureVersion(SignVersion.V4);
        OSS oss = OSSClientBuilder.create()
            .endpoint("https://oss-cn-hangzhou.aliyuncs.com")
            .region("cn-hangzhou")
            .credentialsProvider(CredentialsProviderFactory.newEnvironmentVariableCredentialsProvider())
            .clientConfiguration(configuration)
            .build();
        String bucket = "examplebucket", key = "in/a b.csv", type = "text/csv";
        GeneratePresignedUrlRequest request = new GeneratePresignedUrlRequest(bucket, key, HttpMethod.PUT);
        request.setExpiration(new Date(System.currentTimeMillis() + 3600_000L));
        request.setContentType(type);
        // A key with a quote or a backslash needs a JSON library here.
        System.out.printf("{\"path\": \"%s/%s\", \"url\": \"%s\", \"headers\": {\"Content-Type\": \"%s\"}}%n",
            bucket, key, oss.generatePresignedUrl(request), type);
        oss.shutdown();
    }
}
