<?php // One entry of a URL map, with aliyuncs/oss-sdk-php.
require 'vendor/autoload.php';

use OSS\Credentials\EnvironmentVariableCredentialsProvider;
use OSS\OssClient;

$client = new OssClient([
    'provider' => new EnvironmentVariableCredentialsProvider(),
    'endpoint' => 'https://oss-cn-hangzhou.aliyuncs.com',
    'region' => 'cn-hangzhou',
    'signatureVersion' => OssClient::OSS_SIGNATURE_VERSION_V4,
]);
$bucket = 'examplebucket';
$key = 'in/a b.csv';
$headers = ['Content-Type' => 'text/csv'];
$url = $client->signUrl($bucket, $key, 3600, 'PUT', $headers);
echo json_encode(['path' => "$bucket/$key", 'url' => $url, 'headers' => $headers]), "\n";
